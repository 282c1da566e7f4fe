"""How fast the training step is, and how fast, strong and sparing of memory the evaluation is, beside other libraries.

Synopsis:

    .venv/bin/python -m benchmarks.step --rows steady first floor --networks small
    .venv/bin/python -m benchmarks.evaluation --rows pgd autoattack

`pairs` is how a ratio is measured, `workers` what runs in a process of its own, `results` what a row is and where it
goes. Of the step, `contestants` is what runs, `turns` how, `rows` and `pretext_rows` what is compared; of the
evaluation, `attacked_models` is what is attacked, `attackers` and `autoattacked` who attacks it, `evaluation_pgd` and
`evaluation_rows` what is compared.
"""
