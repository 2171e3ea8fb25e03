"""At scale: every photograph of a data set explained once, whatever breaks on the way."""
