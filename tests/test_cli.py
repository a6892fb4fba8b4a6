"""python -m fastsel: files in and out, what is printed, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import CASES

import fastsel
from fastsel import cli, files
from fastsel.backends import cpu

X = np.concatenate([CASES["normal-63x7"], CASES["normal-63x7"][:5]]).astype(np.float32)


@pytest.fixture
def features(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, X)
    return path


def run(capsys, *arguments):
    """The JSON that the command prints."""
    assert cli.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refuse(capsys, code, *arguments):
    """What the command says on standard error."""
    assert cli.main([*map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    return err


def write(path, array):
    """The array in a file of the suffix's format, next to something else where there is room."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, a=array, other=np.zeros(3))
    elif path.suffix == ".safetensors":
        safetensors = pytest.importorskip("safetensors.numpy")
        safetensors.save_file({"other": np.zeros(3), "a": np.ascontiguousarray(array)}, path)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        flat = pyarrow.array(array.reshape(-1))
        column = pyarrow.FixedSizeListArray.from_arrays(flat, array.shape[1])
        parquet.write_table(pyarrow.table({"id": range(len(array)), "a": column}), path)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".parquet"])
def test_formats(tmp_path, suffix, dtype):
    path = tmp_path / f"x{suffix}"
    write(path, X.astype(dtype))
    array = files.load(path, None if suffix == ".npy" else "a")
    np.testing.assert_array_equal(array, X.astype(dtype))
    assert array.dtype == dtype
    if suffix in (".npy", ".safetensors"):
        assert not array.flags.owndata
        assert not array.flags.writeable  # a mapping of the file


def test_bfloat16_in_safetensors(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    tensor = torch.from_numpy(X).bfloat16()
    safetensors.save_file({"a": tensor}, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(files.load(tmp_path / "x.safetensors"), tensor.float().numpy())


def test_columns_of_a_table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"name": ["p", "q"], "a": [1.0, 2.0], "b": [3.0, 4.0]})
    parquet.write_table(table, tmp_path / "x.parquet")
    np.testing.assert_array_equal(files.load(tmp_path / "x.parquet"), [[1, 3], [2, 4]])
    table = pyarrow.table({"a": [[1.0, 2.0], [1.0]]})
    parquet.write_table(table, tmp_path / "ragged.parquet")
    with pytest.raises(ValueError, match="not all of one length"):
        files.load(tmp_path / "ragged.parquet")


def test_entropy(capsys, features, tmp_path):
    report = run(capsys, "entropy", features, "-k", 1, 3, "--duplicates", "drop", "--base", 2)
    expected = fastsel.kl_entropy(X, [1, 3], duplicates="drop", base=2)
    assert report["entropy"] == expected.tolist()
    assert (report["n"], report["dim"], report["dtype"]) == (68, 7, "float32")
    np.save(tmp_path / "rows.npy", np.arange(40))
    out = tmp_path / "eps.npy"
    report = run(
        capsys, "entropy", features, "--indices", tmp_path / "rows.npy", "--distances", out
    )
    assert report["entropy"] == [fastsel.kl_entropy(X[:40])]
    np.testing.assert_array_equal(np.load(out)[:, 0], fastsel.nearest_distances(X[:40]))


def test_knn(capsys, features, tmp_path):
    index, distance = tmp_path / "index.npy", tmp_path / "distance.npy"
    run(capsys, "knn", features, "-k", 3, "--output", index, "--distances", distance)
    expected = fastsel.knn(X, X, 3, exclude_self=True)
    np.testing.assert_array_equal(np.load(distance), expected[0])
    np.testing.assert_array_equal(np.load(index), expected[1])
    np.save(tmp_path / "q.npy", X[:4])
    options = ["--queries", tmp_path / "q.npy", "--metric", "cosine", "--output", index]
    run(capsys, "knn", features, "-k", 2, *options)
    np.testing.assert_array_equal(np.load(index), fastsel.knn(X[:4], X, 2, metric="cosine")[1])


def test_dedup(capsys, features, tmp_path):
    out = tmp_path / "out.npy"
    report = run(capsys, "dedup", features, "--output", out)
    assert (report["kept"], report["dropped"]) == ([63], [5])
    np.testing.assert_array_equal(np.load(out), np.arange(63))
    run(capsys, "dedup", features, "--radius", 0, 2, "--write", "groups", "--output", out)
    np.testing.assert_array_equal(np.load(out), fastsel.duplicate_groups(X, [0, 2]).T)
    message = refuse(capsys, 2, "dedup", features, "--radius", 0, 2, "--output", out)
    assert "needs a single --radius" in message


def test_select(capsys, features, tmp_path):
    out, radii, initial = (tmp_path / name for name in ("out.npy", "radii.npy", "initial.npy"))
    np.save(initial, [3, 4])
    options = ["--output", out, "--distances", radii]
    run(capsys, "select", features, "--n-samples", "0.25", "--initial", initial, *options)
    expected = fastsel.greedy_select(X, 0.25, initial=[3, 4], return_distances=True)
    np.testing.assert_array_equal(np.load(out), expected[0])
    np.testing.assert_array_equal(np.load(radii), expected[1])
    options = ["--method", "threshold", "--threshold", 3, "--decay", 0.5, "--seed", 1, *options]
    report = run(capsys, "select", features, "--n-samples", 9, *options)
    expected = fastsel.threshold_decay_select(X, 9, threshold=3, decay=0.5, random_state=1)
    np.testing.assert_array_equal(np.load(out), expected)
    assert (report["selected"], "picks" in report) == (9, False)


def test_select_prints_picks_that_no_file_takes(capsys, features):
    report = run(capsys, "select", features, "--n-samples", 4, "--objective", "entropy")
    assert report["picks"] == fastsel.greedy_select(X, 4, objective="entropy").tolist()
    report = run(
        capsys,
        "select",
        features,
        "--n-samples",
        68,
        "--method",
        "threshold",
        "--threshold",
        "auto",
        "--on-shortfall",
        "return",
    )
    expected = fastsel.threshold_decay_select(X, 68, on_shortfall="return")
    assert report["picks"] == expected.tolist()


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_outputs_are_inputs(capsys, features, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    picks = tmp_path / f"picks{suffix}"
    run(capsys, "select", features, "--n-samples", 20, "--output", picks)
    np.testing.assert_array_equal(files.load_indices(picks), fastsel.greedy_select(X, 20))
    report = run(capsys, "entropy", features, "--indices", picks)
    assert report["entropy"] == [fastsel.kl_entropy(X, indices=fastsel.greedy_select(X, 20))]
    report = run(capsys, "select", features, "--n-samples", 30, "--initial", picks)
    assert report["picks"] == fastsel.greedy_select(X, 30).tolist()
    distances = tmp_path / f"distances{suffix}"
    run(capsys, "knn", features, "-k", 2, "--distances", distances)
    np.testing.assert_array_equal(files.load(distances), fastsel.knn(X, X, 2, exclude_self=True)[0])


def test_parquet_output(capsys, features, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    index = tmp_path / "index.parquet"
    run(capsys, "knn", features, "-k", 3, "--output", index)
    table = parquet.read_table(index)
    expected = fastsel.knn(X, X, 3, exclude_self=True)[1]
    assert table["index"].to_pylist() == expected.tolist()


def test_a_failed_write_leaves_the_old_file_and_no_other(capsys, features, tmp_path, monkeypatch):
    out = tmp_path / "out.npy"
    out.write_text("old")

    def full(*arguments, **options):
        raise OSError("no space left")

    monkeypatch.setattr(np, "save", full)
    assert "no space" in refuse(capsys, 1, "dedup", features, "--output", out)
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", "x.npy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["entropy", "none.npy"], "none.npy"),
        (["entropy", "x.csv"], "the suffix must be one of .npy, .npz, .safetensors, .parquet"),
        (["entropy", "x.npy"], "features hold duplicates"),
        (["entropy", "x.npy", "--key", "a"], "without a name, got key 'a'"),
        (["entropy", "ints.npy"], "features must have dtype"),
        (["entropy", "pickle.npy"], "pickle"),
        (["entropy", "two.npz"], "it holds 'a', 'b'; name one of them"),
        (["entropy", "two.npz", "--key", "c"], "there is no 'c'"),
        (["entropy", "bad.safetensors"], "the header is longer than the file"),
        (["knn", "x.npy", "-k", "68"], r"k must be in [1, 67], got 68"),
        (["dedup", "x.npy", "--output", "o.csv"], "must be .npy or .parquet"),
        (["dedup", "x.npy", "--output", "nowhere/o.npy"], "there is no folder"),
        (["select", "x.npy", "--n-samples", "3", "--decay", "0.5"], "--decay is not an option"),
        (
            ["select", "x.npy", "--n-samples", "3", "--min-distance", "1", "--method", "threshold"],
            "--min-distance is not an option",
        ),
        (["entropy", "cut.npz"], "cut.npz: not an .npz archive, or cut off"),
        (["entropy", "damaged.npz"], "damaged.npz: "),
        (["dedup", "x.npy", "--output", "./x.npy"], "must not be an input"),
        (["knn", "x.npy", "--output", "o.npy", "--distances", "o.npy"], "or another output"),
    ],
)
def test_bad_input_is_exit_code_2(capsys, features, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    np.save("ints.npy", np.ones((3, 3), int))
    np.save("pickle.npy", np.array([{}]), allow_pickle=True)
    np.savez("two.npz", a=X, b=X)
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    np.savez_compressed("damaged.npz", a=X)
    archive = (tmp_path / "damaged.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(archive[:500])
    (tmp_path / "damaged.npz").write_bytes(archive[:300] + bytes(100) + archive[400:])
    assert message in refuse(capsys, 2, *arguments)


def test_bad_usage_is_exit_code_2_and_a_missing_backend_1(capsys, features, monkeypatch):
    with pytest.raises(SystemExit) as error:
        cli.main(["select", str(features)])
    assert error.value.code == 2
    capsys.readouterr()
    monkeypatch.setattr(cpu, "unusable_because", lambda: ["it is Sunday"])
    assert "it is Sunday" in refuse(capsys, 1, "knn", features, "--backend", "cpu")


def test_a_missing_package_is_named(capsys, features, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = refuse(capsys, 2, "dedup", features, "--output", tmp_path / "o.parquet")
    assert "pip install 'fastsel[files]'" in message


@pytest.mark.parametrize("n", [0, 1, 1000])
def test_tables_of_several_batches(tmp_path, n):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    x = np.random.default_rng(0).normal(size=(n, 3))
    lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(x.ravel()), 3)
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"a": lists}), path, row_group_size=300)
    np.testing.assert_array_equal(files.load(path), x.reshape((n, 3) if n else (0, 0)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_output_is_exit_code_1_in_one_line(features):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastsel", "dedup", str(features)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["fastsel: [Errno 28] No space left on device"]


def test_progress_goes_to_a_terminal_only(capsys, features, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(["knn", str(features), "-k", "2"]) == 0
    out, err = capsys.readouterr()
    assert "nearest neighbours: 68 of 68" in err
    assert "nearest neighbours" not in out


def test_as_a_module(features):
    command = [sys.executable, "-m", "fastsel", "dedup", str(features)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "kept: [63]" in done.stdout
