"""Which attentions of a program a fused kernel computes, told from its text."""

from __future__ import annotations

import re
from collections import defaultdict

_CALL = re.compile(
    r'custom_call_target="(__cudnn\$fmha\w+|tpu_custom_call)", '
    r"operand_layout_constraints=\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_OPERAND = re.compile(r"(?:bf16|f16|f32)\[\d+,(\d+),(\d+),(\d+)\]")  # of rows, tokens, heads


def fused_attentions(hlo: str) -> dict[str, list[str]]:
    """Fused attentions of an HLO module, compiled or only lowered.

    Returns:
        "QUERIESxKEYSxFEATURES" of a head -> "backward", "forward" or both. Lengths are those that
        the kernel was given, padding included.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for call in _CALL.finditer(hlo):
        operands = [tuple(map(int, sizes)) for sizes in _OPERAND.findall(call[2])]
        if len(operands) < 3:
            continue  # a kernel of something else
        query, key = operands[:2]
        if call[1] == "tpu_custom_call":  # splash: heads before tokens; gradients come in behind
            queries, keys = query[1], key[1]
            backward = sum(operand[2] == query[2] for operand in operands) > 3
        else:
            queries, keys = query[0], key[0]
            backward = "Backward" in call[1]
        found[f"{queries}x{keys}x{query[2]}"].add("backward" if backward else "forward")
    return {attention: sorted(ways) for attention, ways in sorted(found.items())}
