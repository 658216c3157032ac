import pytest

from augscale.config import StudyConfig, load_study, studies_dir, study_text
from augscale.errors import CheckpointError, ConfigError
from augscale.searching.prepare import CHANGEABLE, check_study
from augscale.settings import changes, flatten
from augscale.system.devices import cpu_cores, plan_workers


@pytest.mark.parametrize("name", sorted(path.stem for path in studies_dir().glob("*.toml")))
def test_every_built_in_study_is_valid_down_to_its_backbone_and_scales(name):
    config = load_study(name)
    assert config.name == name
    overrides = {"backbone.init": "none", "pretrain.batch_norm": "train"}
    assert check_study(load_study(name, overrides)) > 10_000


def test_flags_override_the_file_and_none_does_not():
    config = load_study("smoke", {"search.trials": 3, "pretrain.lr": None})
    assert config.search.trials == 3
    assert config.pretrain.lr == 1e-3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"pretrain.step": 5}, "smoke: unknown key pretrain.step (did you mean pretrain.steps?)"),
        ({"pretrain.lr": -1.0}, "smoke: pretrain.lr = -1.0 is not accepted"),
        ({"space.jitter": [0.9, 0.2]}, "jitter = [0.9, 0.2]: expected 0 <= low <= high <= 2"),
        ({"space.local_crop_low": [0.0, 0.2]}, "a crop needs an area above 0"),
        ({"search.rungs": [0.5, 0.25, 1.0]}, "expected rising shares above 0 that end in 1"),
        ({"crops.local_size": 64}, "crops.local_size = 64 is above crops.global_size = 32"),
        ({"name": "a b"}, "name = 'a b' is not accepted"),
    ],
)
def test_a_wrong_setting_names_source_key_value_and_what_is_accepted(overrides, message):
    with pytest.raises(ConfigError) as error:
        load_study("smoke", overrides)
    assert message in str(error.value)
    assert str(error.value).startswith("smoke: ")


def test_a_file_that_is_not_toml_is_named(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("name = ")
    with pytest.raises(ConfigError, match=r"broken\.toml: not a TOML file"):
        load_study(path)
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read"):
        load_study(tmp_path / "missing.toml")


def test_settings_cannot_be_changed_after_they_were_read():
    with pytest.raises(ValueError, match="frozen"):
        StudyConfig().pretrain.steps = 5


def test_what_changed_is_named_and_a_setting_younger_than_the_run_counts_as_its_default():
    defaults = {"a.x": 1, "b": None, "c": 2, "d": 0}
    before = {"a.x": 1, "c": 3, "d": 5}
    assert changes(before, before | {"b": None}, defaults) == ""
    assert changes(before, before | {"b": 7, "c": 2}, defaults) == "b: None, now 7; c: 3, now 2"
    assert changes({}, {"a.x": 1, "c": 2, "d": 1}, defaults) == "d: 0, now 1"
    assert changes({}, {"a.x": 1, "c": 2, "d": 1}, defaults, {"d"}) == ""
    assert changes(before, {"a.x": 1, "c": 3}, defaults) == "d: 5, now None"
    assert changes({}, dict.fromkeys(defaults, -1), defaults).endswith("c: 2, now -1 and 1 more")
    assert flatten({"a": {"x": 1, "y": {"z": [2]}}, "b": {}}) == {"a.x": 1, "a.y.z": [2]}


def test_what_may_change_is_a_setting():
    known = set(flatten(StudyConfig().model_dump()))
    assert known >= CHANGEABLE > StudyConfig.FREE


def test_a_study_written_out_reads_as_itself_also_with_names_that_are_not_utf_8(tmp_path):
    config = load_study("smoke", {"data.sources": ["/data/caf\udce9", "/data/größe"], "search.trials": 3})
    file = tmp_path / "study.toml"
    file.write_text(study_text(config), encoding="utf-8")
    again = load_study(file)
    assert again.data.sources == ("/data/caf\\udce9", "/data/größe")
    assert again.model_copy(update={"data": config.data}) == config


def test_a_study_written_out_finds_its_images_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "study.toml"
    file.write_text(study_text(load_study("smoke", {"data.sources": ["images", "synthetic"]})))
    monkeypatch.chdir("/")
    assert load_study(file).data.sources == (str(tmp_path / "images"), "synthetic")


@pytest.mark.parametrize(("setting", "threads"), [("1", 1), ("no number", None), (None, None)])
def test_workers_take_no_more_threads_than_omp_num_threads(monkeypatch, setting, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if setting is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert plan_workers("cpu", 1, 4).threads == (threads or cpu_cores())


def test_weights_that_cannot_be_had_are_refused_before_the_search(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        check_study(load_study("smoke", {"backbone.init": str(tmp_path / "gone.pth")}))
