"""Estimates of a model's memory."""

from pathlib import Path

from infermesh_worker.models.footprint import Footprint, kv_token_bytes


def test_kv_cache_is_what_is_set_or_a_share_of_what_is_free() -> None:
    footprint = Footprint(base_bytes=100, kv_wanted_bytes=500, kv_least_bytes=50)
    assert footprint.kv_bytes(4000, 0, 4000) == 500
    assert footprint.kv_bytes(1000, 0, 1000) == 250
    assert footprint.kv_bytes(1000, 0, 300) == 100
    assert footprint.kv_bytes(1000, 0, 110) == footprint.kv_least_bytes == 50
    assert footprint.kv_bytes(1000, 7, 110) == 7
    assert footprint.needed_bytes(4000, 0) == 150
    assert footprint.needed_bytes(160, 0) == 140
    assert footprint.needed_bytes(1000, 7) == 107


def test_kv_bytes_of_a_token_come_from_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    assert kv_token_bytes(tmp_path, 2, default=5) == 5
    config.write_text(
        '{"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}'
    )
    assert kv_token_bytes(tmp_path, 2) == 2 * 30 * 3 * 64 * 2
    config.write_text('{"text_config": {"num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}}')
    assert kv_token_bytes(tmp_path, 1) == 2 * 2 * 4 * 8
    config.write_text("[]")
    assert kv_token_bytes(tmp_path, 1, default=5) == 5
