"""The whole pipeline with everything going wrong that can: any run, and any failure, is had again from its seed."""
