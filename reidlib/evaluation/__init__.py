"""From features to numbers: rankings, protocols."""
