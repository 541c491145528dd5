"""The Markov field against dense linear algebra."""

import numpy as np
import pytest

from geodiff.fillers.gmrf import MaternField, domain, krige

SHAPE = (9, 11)


def dense(model: MaternField, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of the posterior and weights of the observations, the plain way."""
    count, index = known.size, np.arange(known.size).reshape(known.shape)
    graph = np.zeros((count, count))
    for a, b in [
        *zip(index[:, :-1].flat, index[:, 1:].flat, strict=True),
        *zip(index[:-1].flat, index[1:].flat, strict=True),
    ]:
        graph[[a, b], [a, b]] += 1
        graph[[a, b], [b, a]] -= 1
    operator = model.kappa2 * np.eye(count) + graph
    precision = model.variance * np.linalg.matrix_power(operator, model.alpha)
    observed = known.ravel() / model.nugget
    covariance = np.linalg.inv(precision + np.diag(observed))
    return covariance, covariance * observed


@pytest.mark.parametrize("model", [MaternField(2, 0.05, 0.1), MaternField(1, 0.02, 0.05)])
def test_the_conditional_mean_and_deviation_are_those_of_the_dense_solve(rng, model):
    known = rng.random(SHAPE) < 0.6
    values = rng.normal(size=(2, *SHAPE))
    covariance, weights = dense(model, known)
    kriged = krige(values, known, np.ones(SHAPE, bool), model)
    expected = (weights @ (values * known).reshape(2, -1).T).T.reshape(values.shape)
    np.testing.assert_allclose(kriged.mean, expected, atol=1e-8)
    variance = np.where(known, np.nan, np.diag(covariance).reshape(SHAPE))
    padded = np.pad(variance, 1, constant_values=np.nan)
    around = np.stack([padded[i : i + SHAPE[0], j : j + SHAPE[1]] for i in range(3) for j in range(3)])
    expected_deviation = np.sqrt(np.nanmean(np.where(known, 0.0, around), axis=0))
    np.testing.assert_allclose(kriged.deviation((5, 7), probes=3000)[~known], expected_deviation[~known], rtol=0.08)


@pytest.mark.parametrize("model", [MaternField(2, 0.02, 0.01), MaternField(2, 0.1, 0.01), MaternField(1, 0.02, 0.01)])
def test_the_field_has_unit_variance(model):
    shape = (61, 61)
    nothing = np.zeros(shape, bool)
    nothing[0, 0] = True  # one far pixel, so that the system has an observation
    kriged = krige(np.zeros((1, *shape)), nothing, np.ones(shape, bool), model)
    unit = np.zeros(61 * 61)
    unit[30 * 61 + 30] = 1.0
    assert kriged.solve(unit)[30 * 61 + 30] == pytest.approx(1.0, rel=0.1)


def test_the_domain_is_the_wanted_gaps_with_a_ring():
    missing = np.zeros((60, 60), bool)
    missing[10:14, 10:14] = missing[40:44, 40:44] = True
    wanted = np.zeros_like(missing)
    wanted[10:14, 10:14] = True
    inside = domain(missing, wanted)
    assert inside[6:18, 6:18].all()
    assert inside.sum() == 12 * 12
