"""How fast the training step is, beside the same step written plainly, beside its floor, and beside PyTorch.

Synopsis:

    .venv/bin/python -m benchmarks.step --rows steady first floor --networks small

`pairs` is how a ratio is measured, `contestants` what runs, `rows` what is compared, `step` the command.
"""
