"""The local cloud: all that Sluice needs of AWS, in one process, as strict as AWS where that matters."""
