"""The evidence study: does a label-free score rank augmentation scales as accuracy downstream does, is weak better?

See docs/evidence/README.md. `python -m benchmarks.evidence run` trains and measures, `collect` turns the runs into
CSVs, `tables` computes every table and figure from the CSVs alone.
"""
