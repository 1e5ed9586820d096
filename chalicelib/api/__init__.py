"""The admin API over HTTP: what comes in is checked here, what goes out is written here."""
