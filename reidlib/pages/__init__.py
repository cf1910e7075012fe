"""Tables and figures drawn from records. Nothing here trains."""
