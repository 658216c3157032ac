import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from augscale.diagnosis.maps import MOST_TSNE_POINTS, pca_map, tsne_map


def clusters(groups=6, views=5, dim=32, seed=0):
    rng = np.random.default_rng(seed)
    centers = 5 * rng.normal(size=(groups, dim))
    return np.repeat(centers, views, axis=0) + rng.normal(size=(groups * views, dim)), np.repeat(range(groups), views)


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 40), st.integers(2, 20), st.integers(0, 1000))
def test_the_pca_map_is_scikit_learns_up_to_signs(count, dim, seed):
    embeddings = np.random.default_rng(seed).normal(size=(count, dim))
    mine, theirs = pca_map(embeddings), PCA(2, svd_solver="full").fit_transform(embeddings)
    assert mine.dtype == np.float32
    np.testing.assert_allclose(np.abs(mine), np.abs(theirs), atol=1e-5)
    for axis in range(2):
        assert abs(np.corrcoef(mine[:, axis], theirs[:, axis])[0, 1]) == pytest.approx(1, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_sign_of_an_axis_does_not_depend_on_the_sign_of_the_embeddings_basis(seed):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(15, 6)) * [9, 5, 1, 1, 1, 1]
    turned = embeddings @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    np.testing.assert_allclose(pca_map(turned), pca_map(embeddings), atol=1e-4)


def test_the_furthest_point_of_an_axis_is_on_its_positive_side():
    found = pca_map(clusters()[0])
    assert (found[np.abs(found).argmax(axis=0), [0, 1]] > 0).all()


@pytest.mark.parametrize("make", [pca_map, lambda e: tsne_map(e, seed=0)], ids=["pca", "tsne"])
@pytest.mark.parametrize("shape", [(1, 8), (4, 8), (5, 8), (40, 8), (12, 1)])
def test_constant_embeddings_are_zeros(make, shape):
    for value in (0.0, 0.1, 1e6):
        np.testing.assert_array_equal(make(np.full(shape, value, dtype=np.float32)), np.zeros((shape[0], 2)))


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (2, 5), (3, 2), (9, 1)])
def test_an_axis_that_does_not_exist_is_zero(shape):
    embeddings = np.random.default_rng(0).normal(size=shape)
    found = pca_map(embeddings)
    assert found.shape == (shape[0], 2)
    assert np.isfinite(found).all()
    rank = np.linalg.matrix_rank(embeddings - embeddings.mean(axis=0))
    assert (np.abs(found).max(axis=0) > 1e-6).sum() == min(2, rank)


def test_fewer_than_five_points_are_the_pca_map():
    embeddings = np.random.default_rng(0).normal(size=(4, 9))
    np.testing.assert_array_equal(tsne_map(embeddings, seed=0), pca_map(embeddings))


def test_many_copies_of_two_points_are_two_points():
    embeddings = np.repeat(np.random.default_rng(0).normal(size=(2, 9)), 20, axis=0)
    found = tsne_map(embeddings, seed=0)
    np.testing.assert_array_equal(found, pca_map(embeddings))
    assert len(np.unique(found.round(4), axis=0)) == 2


@pytest.mark.parametrize("count", [5, 6, 10, 30, 95])
def test_tsne_works_for_few_points_and_repeats_itself(count):
    embeddings = np.random.default_rng(1).normal(size=(count, 16)).astype(np.float32)
    found = tsne_map(embeddings, seed=3)
    assert found.shape == (count, 2)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, tsne_map(embeddings, seed=3))


def test_tsne_does_not_depend_on_the_scale_of_the_embeddings():
    embeddings, _ = clusters()
    # A power of two changes no digit.
    np.testing.assert_allclose(tsne_map(1024 * embeddings, seed=0), tsne_map(embeddings, seed=0), atol=1e-3)
    assert tsne_map(1e-8 * embeddings, seed=0).std() > 1


def test_tsne_keeps_neighbours_and_groups_together():
    embeddings, groups = clusters(groups=10, views=6)
    found = tsne_map(embeddings, seed=0)
    assert trustworthiness(embeddings, found, n_neighbors=5) > 0.9
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (groups[distances.argmin(axis=1)] == groups).mean() > 0.95


def test_too_many_points_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"1501 points.*at most 1500"):
        tsne_map(np.zeros((MOST_TSNE_POINTS + 1, 3)), seed=0)
