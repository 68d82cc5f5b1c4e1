"""The commands as a user meets them: what they print, what they write, how they end."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lossc.grammar.syntax import SECTIONS
from lossc.runtime.cli.boundary import run
from lossc.runtime.cli.schema import run_schema, spec_schema
from lossc.runtime.training.runfile import Run

EXAMPLE = '''"""Direct preference optimisation with a likelihood anchor."""
objective dpo_sft

use std.settings.pairs
use std.preference (dpo)

param beta   : positive = 0.1  # strength of the tie to the reference
param anchor : nonneg   = 0.2

minimize
  pref : mean[pair](dpo(margin, beta = beta))
  tie  : anchor * sft

monitor
  accuracy : mean[pair](margin > 0)
'''


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A correct file `dpo.loss` in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    Path("dpo.loss").write_text(EXAMPLE, encoding="utf-8")
    return "dpo.loss"


Output = Callable[[], tuple[str, str]]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    def read() -> tuple[str, str]:
        captured = capsys.readouterr()
        return captured.out, captured.err

    return read


def test_check_says_that_all_is_well(spec: str, output: Output) -> None:
    assert run(["check", spec]) == 0
    assert output() == ("dpo.loss: no problems\n", "")


def test_check_reports_every_file_and_every_problem(spec: str, output: Output) -> None:
    Path("bad.loss").write_text(EXAMPLE.replace("dpo(margin", "dpo(margn").replace("anchor *", "ancor *"), encoding="utf-8")
    assert run(["check", "missing.loss", "bad.loss", spec]) == 1
    out, _ = output()
    assert "error[E801]" in out
    assert "bad.loss:11:25" in out
    assert "bad.loss:12:10" in out
    assert "did you mean `margin`?" in out
    assert out.rstrip().endswith("dpo.loss: no problems")


def test_check_as_json_is_one_object(spec: str, output: Output) -> None:
    Path("bad.loss").write_text(EXAMPLE.replace("dpo(margin", "dpo(margn"), encoding="utf-8")
    assert run(["check", "bad.loss", "--format", "json"]) == 1
    record = json.loads(output()[0])["problems"][0]
    assert (record["severity"], record["file"], record["line"]) == ("error", "bad.loss", 11)


def test_check_takes_other_values_of_parameters(spec: str, output: Output) -> None:
    assert run(["check", spec, "--set", "beta=-1"]) == 1
    out, _ = output()
    assert "`beta` must be greater than 0" in out
    assert run(["check", spec, "--set", "beta=0.3", "--set", "anchor=0"]) == 0


def test_check_reads_stdin(spec: str) -> None:
    done = subprocess.run([sys.executable, "-m", "lossc", "check", "-"], input=EXAMPLE, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, "-: no problems\n")


@pytest.mark.parametrize(
    "arguments",
    [["check", "dpo.loss", "--set", "beta"], ["explain", "E99"], ["new", "classe"], ["train"], ["check"], ["nonsense"]],
)
def test_a_wrong_command_line_ends_with_2(spec: str, arguments: list[str], output: Output) -> None:
    assert run(arguments) == 2
    assert output()[1]


def test_fmt_rewrites_in_place_and_keeps_comments(spec: str, output: Output) -> None:
    ugly = EXAMPLE.replace("param beta   : positive = 0.1  #", "param beta:positive=0.1 #")
    Path(spec).write_text(ugly, encoding="utf-8")
    assert run(["fmt", spec, "--check"]) == 1
    assert Path(spec).read_text(encoding="utf-8") == ugly
    assert run(["fmt", spec]) == 0
    assert Path(spec).read_text(encoding="utf-8") == EXAMPLE
    assert run(["fmt", spec, "--check"]) == 0


def test_fmt_leaves_a_broken_file_alone(spec: str, output: Output) -> None:
    Path(spec).write_text("minimize\n  a : (1 + \n", encoding="utf-8")
    assert run(["fmt", spec]) == 1
    assert Path(spec).read_text(encoding="utf-8") == "minimize\n  a : (1 + \n"


def test_fmt_goes_on_behind_a_broken_file(spec: str, output: Output) -> None:
    Path("broken.loss").write_text("minimize\n  a : (1 + \n", encoding="utf-8")
    Path(spec).write_text(EXAMPLE.replace("positive = 0.1", "positive=0.1"), encoding="utf-8")
    assert run(["fmt", "broken.loss", "missing.loss", spec]) == 1
    assert Path(spec).read_text(encoding="utf-8") == EXAMPLE
    _, err = output()
    assert err.count("error[") == 2


def test_fmt_converts_to_yaml_and_back(spec: str, output: Output) -> None:
    assert run(["fmt", spec, "--to", "yaml"]) == 0
    Path("dpo.yaml").write_text(output()[0], encoding="utf-8")
    assert run(["fmt", "dpo.yaml", "--to", "text"]) == 0
    assert output()[0] == EXAMPLE


def test_show_names_terms_inputs_and_reductions(spec: str, output: Output) -> None:
    assert run(["show", spec]) == 0
    out, _ = output()
    assert "margin" in out
    assert "mean over pair, t" in out
    assert "logits, labels, mask, ref_logp" in out
    assert "beta = 0.1" in out


def test_show_tells_what_was_filled_in_and_what_was_dropped(spec: str, output: Output) -> None:
    Path(spec).write_text(EXAMPLE.replace("dpo(margin, beta = beta)", "dpo()").replace("anchor *", "0 *"), encoding="utf-8")
    assert run(["show", spec]) == 0
    out, _ = output()
    assert "filled in: dpo(margin = margin)" in out
    assert "dropped:" in out


def test_show_makes_the_choices(output: Output) -> None:
    assert run(["show", "zoo/fairness/dcov_fairness"]) == 0
    assert "measure = ccdcov (or dcov, jdcov)" in output()[0]
    assert run(["show", "zoo/fairness/dcov_fairness", "--set", "measure=jdcov"]) == 0
    assert "measure = jdcov (or dcov, ccdcov)" in output()[0]


def test_show_prints_latex_alone(spec: str, output: Output) -> None:
    assert run(["show", spec, "--latex"]) == 0
    out, _ = output()
    assert out.startswith("\\begin{aligned}")
    assert out.rstrip().endswith("\\end{aligned}")


def test_render_needs_no_library(spec: str, output: Output) -> None:
    assert run(["render", spec, "--set", "beta=0.3"]) == 0
    rendered = output()[0]
    assert "std." not in rendered
    assert "= 0.3" in rendered
    Path("rendered.loss").write_text(rendered, encoding="utf-8")
    assert run(["check", "rendered.loss"]) == 0


def test_compile_writes_a_module_that_needs_torch_alone(spec: str, output: Output) -> None:
    assert run(["compile", spec, "-o", "loss.py", "--set", "beta=0.3"]) == 0
    assert run(["compile", spec, "-o", "loss.py"]) == 1
    assert run(["compile", spec, "-o", "loss.py", "--force"]) == 0
    text = Path("loss.py").read_text(encoding="utf-8")
    assert "import torch" in text
    assert "import lossc" not in text
    compile(text, "loss.py", "exec")


def test_compile_is_told_extents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: Output) -> None:
    monkeypatch.chdir(tmp_path)
    Path("centred.loss").write_text(
        "use std.settings.classes\nstate c : real[v] = 0 then (c + mean[b](softmax[v](logits))) / 2\n"
        "minimize\n  f : mean[b](nll) + sum[v](c)\n",
        encoding="utf-8",
    )
    assert run(["compile", "centred.loss", "-o", "centred.py"]) == 1
    assert "E714" in "".join(output())
    assert run(["compile", "centred.loss", "-o", "centred.py", "--sizes", "v=7"]) == 0
    assert "'v': 7" in Path("centred.py").read_text(encoding="utf-8")


def test_plan_reads_extents_and_refuses_other_axes(spec: str, output: Output) -> None:
    assert run(["plan", spec, "--sizes", "pair=8,t=1024,v=128256"]) == 0
    assert "GiB" in output()[0]
    assert run(["plan", spec, "--json"]) == 0
    json.loads(output()[0])
    assert run(["plan", spec, "--sizes", "vv=8"]) == 2
    assert "`vv` is not an axis" in output()[1]
    assert run(["plan", spec, "--sizes", "v=-1"]) == 2


def test_a_closed_pipe_is_no_fault() -> None:
    command = f"{sys.executable} -m lossc list | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "fault" not in done.stderr


def test_list_names_settings_and_terms(output: Output) -> None:
    assert run(["list"]) == 0
    out, _ = output()
    assert "std.settings.pairs" in out
    assert "focal(" in out
    assert run(["list", "--settings", "--json"]) == 0
    listed = json.loads(output()[0])
    assert "terms" not in listed
    assert {"pairs", "classes"} <= {setting["name"] for setting in listed["settings"]}


def test_explain_prints_the_page(output: Output) -> None:
    assert run(["explain", "e811"]) == 0
    assert output()[0].startswith("# E811: ")
    assert run(["explain"]) == 0
    assert "E811  a key of a run file is not known" in output()[0]


def test_schema_has_the_keys_of_the_grammar(output: Output) -> None:
    assert run(["schema"]) == 0
    assert json.loads(output()[0]) == spec_schema()
    assert set(spec_schema()["properties"]) == {"lossc", *SECTIONS}
    assert run(["schema", "--run"]) == 0
    assert set(json.loads(output()[0])["properties"]) == set(Run.model_fields) == set(run_schema()["properties"])


def test_every_option_and_key_is_described() -> None:
    assert all(section["description"] for section in spec_schema()["properties"].values())


def test_new_writes_a_spec_that_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: Output) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["new", "pairs"]) == 0
    assert run(["check", "pairs.loss"]) == 0
    assert run(["new", "pairs"]) == 1
    assert "exists already" in output()[1]
    assert run(["new", "pairs", "--dir", "other"]) == 0
    assert Path("other/pairs.run.yaml").exists()


def test_an_internal_fault_asks_for_a_report(spec: str, output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the floor gave way")

    monkeypatch.delenv("LOSSC_DEBUG", raising=False)
    monkeypatch.setattr("lossc.compiler.check.check_source", broken)
    assert run(["check", spec]) == 70
    _, err = output()
    assert "Traceback" not in err
    assert "the floor gave way" in err
    assert "report" in err


LIGHT = [
    ["check", "dpo.loss"], ["fmt", "--check", "dpo.loss"], ["show", "dpo.loss"], ["plan", "dpo.loss"], ["schema"],
    ["list"], ["list", "--zoo"], ["explain", "E811"], ["render", "dpo.loss"], ["new", "classes"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", LIGHT, ids=lambda arguments: " ".join(arguments[:2]))
def test_light_commands_never_import_torch(spec: str, arguments: list[str]) -> None:
    program = (
        "import sys; from lossc.runtime.cli.boundary import run\n"
        f"status = run({arguments!r}); assert status == 0, status\n"
        "assert 'torch' not in sys.modules; assert 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_check_of_fifty_lines_is_quick(spec: str) -> None:
    lines = [f"  extra{number} : {number} * mean[pair](dpo(margin, beta = beta))" for number in range(1, 36)]
    Path(spec).write_text(EXAMPLE.replace("\nmonitor", "\n".join(lines) + "\n\nmonitor"), encoding="utf-8")
    assert len(Path(spec).read_text(encoding="utf-8").splitlines()) == 50
    assert min(_seconds_of_processor(["check", spec]) for _ in range(3)) < 0.6


def _seconds_of_processor(arguments: list[str]) -> float:
    """What a command costs as a process, start included; unlike the clock, the same on a busy machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "lossc", *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_list_of_the_zoo(output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["list", "--zoo"]) == 0
    listing = output()[0]
    assert "zoo/preference/dpo_shift" in listing
    assert run(["list", "--zoo", "--json"]) == 0
    (work,) = (record for record in json.loads(output()[0]) if record["id"] == 162)
    assert (work["name"], work["family"], work["certainty"]) == ("dpo_shift", "preference", "checked")
    assert work["inputs"] == ["logits", "labels", "mask", "ref_logp"]
    first, rest = work["about"].split(". ", 1)
    assert first in listing and rest not in listing
    assert Path(work["path"]).is_file()
    assert run(["check", work["path"]]) == run(["check", work["reference"]]) == 0
    output()
    assert run(["check", "zoo/preference/dposhift"]) == 1
    assert "did you mean `zoo/preference/dpo_shift`?" in "".join(output())
