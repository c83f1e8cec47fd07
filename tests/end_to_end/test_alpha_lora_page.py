"""The Python of docs/alpha_lora.md, block after block as a reader would type it."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from loralaw.tuners import row_scales

PAGE = Path(__file__).parents[2] / "docs" / "alpha_lora.md"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_python_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter, trainer, suggestion, tasks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(adapter, names)
    assert "trainable params" in capsys.readouterr().out
    ids = torch.arange(20)[None]
    plain = names["AutoModelForCausalLM"].from_pretrained(names["folder"])
    assert torch.equal(names["model"](ids).logits, plain(ids).logits)
    torch.testing.assert_close(names["merged"](ids).logits, plain(ids).logits, rtol=1e-5, atol=1e-5)
    exec(trainer.replace('report_to="none"', 'report_to="none", use_cpu=True, dataloader_pin_memory=False'), names)
    assert names["trainer"].state.global_step == 21
    assert "q_proj" in capsys.readouterr().out
    assert max(float((alpha - 1).abs().max()) for alpha in row_scales(names["model"]).values()) > 5e-3
    exec(suggestion, names)
    assert "Suggested row scale α of 14 layers" in capsys.readouterr().out
    alphas = {name: float(alpha[0]) for name, alpha in row_scales(names["model"]).items()}
    assert alphas == pytest.approx(names["suggestion"].row_scales, rel=5e-3)  # PEFT begins in the base's bfloat16
    assert max(alphas.values()) > 1.05
    exec(tasks, names)
    assert Path("two-tasks/adapter_model.safetensors").is_file()
