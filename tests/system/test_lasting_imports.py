import gc

import pytest

from augscale.system.lasting_imports import lasting_imports


def test_what_is_imported_is_out_of_the_collectors_sight_and_collection_goes_on_afterwards():
    before = gc.get_freeze_count()
    try:
        with lasting_imports():
            assert not gc.isenabled()
            made = [[] for _ in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + len(made)
    finally:
        gc.unfreeze()


def test_an_import_that_fails_leaves_collection_on():
    try:
        with pytest.raises(ImportError), lasting_imports():
            import no_such_module  # noqa: F401
        assert gc.isenabled()
    finally:
        gc.unfreeze()
