"""What R-FCN, Deep Feature Flow and Flow-Guided Feature Aggregation share."""
