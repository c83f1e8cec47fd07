"""A setting of a ridge source that tests change one argument of."""

RIDGE = {
    "n_source": 500,
    "n_target": 50,
    "dim": 200,
    "mu_norm": 1.0,
    "mu_orth_norm": 1.2,
    "beta": 0.6,
    "gamma_source": 1.0,
    "gamma_target": 0.5,
}
