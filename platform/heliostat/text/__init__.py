"""Pure rules over text that several stages share. Tokenizers come in as arguments, never loaded here."""
