"""The local cloud: everything Sluice needs of AWS, in one process, as strict as the real thing where that matters."""
