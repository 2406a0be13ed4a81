"""What each verb of the command line does: `cli` says what may be typed."""
