"""Does the label-free score rank trials as downstream labels do? Correlations, regret, and how sure they are."""
