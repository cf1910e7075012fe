"""The networks: one file a paper, on one shared ResNet and one output contract."""
