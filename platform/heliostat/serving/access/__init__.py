"""Who may ask the gateway for what, from where, when, how much of it, and the record of it all."""
