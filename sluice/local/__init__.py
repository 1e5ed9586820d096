"""The local cloud: the parts of AWS that Sluice uses, in one process, as strict as AWS where that matters."""
