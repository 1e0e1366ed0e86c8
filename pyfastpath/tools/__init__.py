"""What an operator runs beside the relay: ctl, doctor, explain, token. Each is called by the CLI."""
