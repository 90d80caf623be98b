"""What is sent, by hand, of programs that JAX itself divides over eight fake devices."""

import subprocess
import sys

import pytest

from vljepa_jax.planning.collectives import CollectiveError, sent_between_hosts, sent_bytes

PROGRAM = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from vljepa_jax.planning.collectives import sent_bytes

jax.config.update("jax_num_cpu_devices", 8)
mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
whole, divided = NamedSharding(mesh, P()), NamedSharding(mesh, P("d"))

def sent(function, spec, out, *shapes):
    arguments = [jax.ShapeDtypeStruct(s, jnp.float32, sharding=spec) for s in shapes]
    compiled = jax.jit(function, out_shardings=out).lower(*arguments).compile()
    return sent_bytes(compiled.as_text())

gathered = sent(lambda x: x, divided, whole, (64, 32))
assert gathered == {"all-gather": 64 * 32 * 4 * 7 / 8}, gathered

summed = sent(lambda x: x.sum(axis=0), divided, whole, (64, 32))
assert summed == {"all-reduce": 2 * 32 * 4 * 7 / 8}, summed

def looped(x):  # each turn needs a sum over the devices
    return jax.lax.scan(lambda x, _: (x - x.mean(axis=0), None), x, None, length=5)[0]

in_loop = sent(looped, divided, divided, (64, 32))
assert in_loop == {"all-reduce": 5 * 2 * 32 * 4 * 7 / 8}, in_loop
assert sent(lambda x: x + 1, divided, divided, (64, 32)) == {}
"""


def test_what_is_sent():
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-2000:]


# ruff: noqa: E501
# As the TPU's compiler writes them: started and finished apart, inside fusions, in other layouts.
STARTED = """HloModule step

%fused (p: bf16[16,128]) -> bf16[64,128] {
  %p = bf16[16,128]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.1 = bf16[64,128]{1,0:T(8,128)(2,1)} all-gather(%p), replica_groups=[2,4]<=[8]
}

ENTRY %main (a: f32[8,8], b: f32[4]) -> f32[8,8] {
  %a = f32[8,8]{1,0} parameter(0)
  %start = ((f32[8,8], f32[4]), (f32[16,8], f32[8])) all-gather-start(%a, %b), replica_groups={{0,1},{2,3}}
  %done = (f32[16,8], f32[8]) all-gather-done(%start)
  %permuted = (f32[8,8]{1,0:S(1)}, f32[8,8], u32[], u32[]) collective-permute-start(%a), source_target_pairs={{0,1}}
  %within = bf16[64,128]{1,0} fusion(%c), kind=kOutput, calls=%fused
  ROOT %reduced = f32[2,8]{1,0} reduce-scatter(%a), replica_groups=mesh['x'=2,'y'=4], device_ids=([4,2]T(1,0)) {'y'}, to_apply=%add
}
"""


def test_other_ways_of_writing():
    assert sent_bytes(STARTED) == {
        "all-gather": (16 * 8 + 8) * 4 / 2 + 64 * 128 * 2 * 3 / 4,
        "collective-permute": 8 * 8 * 4,
        "reduce-scatter": 2 * 8 * 4 * 3,
    }


def test_operands_of_what_is_started_are_not_sent():
    """As the GPU's compiler starts several sums at once."""
    program = """HloModule step

ENTRY %main (a: bf16[32,8], b: f32[8]) -> (bf16[8,8], f32[2]) {
  %start = ((bf16[32,8]{1,0}, f32[8]{0}), (bf16[8,8]{1,0}, f32[2]{0})) reduce-scatter-start(%a, %b), replica_groups={{0,1,2,3}}, to_apply=%add
  %one = ((f32[8]{0}), f32[2]{0}) reduce-scatter-start(%b), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %done = (bf16[8,8]{1,0}, f32[2]{0}) reduce-scatter-done(%start)
}
"""
    assert sent_bytes(program) == {"reduce-scatter": (8 * 8 * 2 + 2 * 4 + 2 * 4) * 3}


def test_a_group_that_cannot_be_read_is_told():
    with pytest.raises(CollectiveError, match="replica_groups=all"):
        sent_bytes(STARTED.replace("replica_groups=[2,4]<=[8]", "replica_groups=all"))


# Its loops: the number of turns is that of the condition, and what is in them counts as often.
LOOP = """HloModule step

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%body (state: (s32[], f32[100])) -> (s32[], f32[100]) {
  %summed = f32[100]{0:T(128)} all-reduce(%part), replica_groups={{0,1,2,3,4}}, to_apply=%add
  %turn = s32[]{:T(128)} get-tuple-element(%state), index=0
  %step.1 = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)} add(%turn, %step.1)
  ROOT %both = (s32[]{:T(128)}, f32[100]{0:T(128)}) tuple(%next, %summed)
}

%condition (state: (s32[], f32[100])) -> pred[] {
  %limit.1 = s32[]{:T(128)} constant(99)
  %limit.clone.1 = s32[]{:T(128)} constant(24)
  %turn = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %lt = pred[]{:T(512)} compare(%turn, %limit.clone.1), direction=LT, metadata={op_name="lt"}
}

ENTRY %main (a: f32[100]) -> f32[100] {
  %loop = (s32[]{:T(128)}, f32[100]{0:T(128)}) while(%start), condition=%condition, body=%body
}
"""


def test_loops_that_say_their_turns_in_their_condition():
    assert sent_bytes(LOOP) == {"all-reduce": pytest.approx(24 * 2 * 400 * 4 / 5)}


@pytest.mark.parametrize(("step", "turns"), [(2, 12), (5, 5), (24, 1)])
def test_loops_that_count_by_more_than_one(step, turns):
    """As those in which the TPU's compiler sends a product's operand piece by piece, by twos."""
    loop = LOOP.replace("constant(1)", f"constant({step})").replace("s32", "u32")
    assert sent_bytes(loop) == {"all-reduce": pytest.approx(turns * 2 * 400 * 4 / 5)}


def test_loops_that_count_in_several_additions():
    loop = LOOP.replace("tuple(%next,", "tuple(/*index=0*/%after,").replace(
        "  ROOT %both", "  %after = s32[]{:T(128)} add(%step.1, s32[]{:T(128)} %next)\n  ROOT %both"
    )
    assert sent_bytes(loop) == {"all-reduce": pytest.approx(12 * 2 * 400 * 4 / 5)}


@pytest.mark.parametrize("other", ["multiply(%turn, %step.1)", "add(%turn, %unknown)"])
def test_a_loop_that_counts_in_another_way_is_told(other):
    loop = LOOP.replace("add(%turn, %step.1)", other)
    loop = loop.replace("%step.1 =", "%unknown = s32[] parameter(1)\n  %step.1 =")
    with pytest.raises(CollectiveError, match="how often a loop turns"):
        sent_bytes(loop)


def test_a_loop_that_sends_who_knows_how_often_is_told():
    with pytest.raises(CollectiveError, match="how often a loop turns"):
        sent_bytes(LOOP.replace("direction=LT", "direction=NE"))
    quiet = LOOP.replace("direction=LT", "direction=NE").replace("all-reduce(", "negate(")
    assert sent_bytes(quiet) == {}  # without a collective in it, it does not matter


# One gather, begun before a loop, gone on beside its turns, and ended after it; and a gather of
# each turn, begun and ended there.
SPREAD = (
    LOOP.replace(
        "%body (",
        """%begun (p: bf16[16,4]) -> bf16[16,20] {
  %all-gather.1 = bf16[16,20] all-gather(%p), channel_id=7, replica_groups={{0,1,2,3,4}}
}

%gone_on (p: bf16[16,4]) -> bf16[16,20] {
  %all-gather.2 = bf16[16,20] all-gather(%p), channel_id=7, replica_groups={{0,1,2,3,4}}
}

%within (p: f32[10]) -> f32[50] {
  %all-gather.3 = f32[50] all-gather(%p), channel_id=8, replica_groups={{0,1,2,3,4}}
}

%body (""",
    )
    .replace(
        "  %summed",
        """  %beside = bf16[16,20] fusion(%x), kind=kCustom, calls=%gone_on
  %first = f32[50] fusion(%y), kind=kCustom, calls=%within
  %summed""",
    )
    .replace("  %loop", "  %start = bf16[16,20] fusion(%a), kind=kCustom, calls=%begun\n  %loop")
)


def test_a_collective_that_is_spread_over_fusions_is_one():
    sent = sent_bytes(SPREAD)
    assert sent["all-gather"] == pytest.approx((16 * 20 * 2 + 24 * 50 * 4) * 4 / 5)
    assert sent["all-reduce"] == pytest.approx(24 * 2 * 400 * 4 / 5)


# Twelve devices in three hosts of four.
HOSTS = [device // 4 for device in range(12)]


@pytest.mark.parametrize(
    ("groups", "members", "outside"),
    [
        ("[3,4]<=[12]", 4, 0.0),  # those of a host
        ("[4,3]<=[3,4]T(1,0)", 3, 1.0),  # one of each host
        ("[1,12]<=[12]", 12, 1 / 4),
        ("[2,6]<=[3,2,2]T(1,0,2)", 6, 1 / 2),  # two of each host
        ("{{0,1,2,3},{4,5,6,7},{8,9,10,11}}", 4, 0.0),
        ("{{0,4,8},{1,5,9},{2,6,10},{3,7,11}}", 3, 1.0),
        ("mesh['data'=3,'fsdp'=4] {'fsdp'}", 4, 0.0),
        ("mesh['data'=3,'fsdp'=4] {'data'}", 3, 1.0),
        ("mesh['data'=3,'fsdp'=4] {'data','fsdp'}", 12, 1 / 4),
        ("mesh['all'=12] {'all':(3)4}", 4, 0.0),
        ("mesh['all'=12] {'all':(1)3}", 3, 1.0),
        ("mesh['all'=12] {'all':(3)2}", 2, 0.0),
        ("mesh['x'=4,'y'=3], device_ids=([3,4]T(1,0)) {'x'}", 4, 0.0),
        ("mesh['x'=4,'y'=3], device_ids=([3,4]T(1,0)) {'y'}", 3, 1.0),
    ],
)
def test_what_leaves_a_host(groups, members, outside):
    program = f"""HloModule step

ENTRY %main (a: f32[100]) -> f32[100] {{
  ROOT %sum = f32[100] all-reduce(%a), channel_id=1, replica_groups={groups}, to_apply=%add
}}
"""
    sent = 2 * 400 * (members - 1) / members
    assert sent_bytes(program) == {"all-reduce": pytest.approx(sent)}
    between = sent_between_hosts(program, HOSTS)
    assert between == ({"all-reduce": pytest.approx(sent * outside)} if outside else {})


@pytest.mark.parametrize(("pairs", "outside"), [("{{0,1},{1,0}}", 0), ("{{0,1},{3,4}}", 1)])
def test_what_a_permutation_sends_to_another_host(pairs, outside):
    program = f"""HloModule step

ENTRY %main (a: f32[100]) -> f32[100] {{
  ROOT %moved = f32[100] collective-permute(%a), channel_id=1, source_target_pairs={pairs}
}}
"""
    found = sent_between_hosts(program, HOSTS)
    assert found == ({"collective-permute": 400.0} if outside else {})
