"""ResNets, and later their pretrained weights and heads."""
