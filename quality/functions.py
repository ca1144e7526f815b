"""The domain checks under the names that SQL calls them by."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def register(connection: "duckdb.DuckDBPyConnection") -> None:
    """Let a connection call the checks on whole columns."""
    from quality import codes, divisions

    for name, function, types in (
        ("resident_id_valid", codes.resident_ids_valid, ["VARCHAR"]),
        ("uscc_valid", codes.usccs_valid, ["VARCHAR"]),
        ("division_valid", codes.divisions_valid, ["VARCHAR"]),
        ("id_region_existed", divisions.id_regions_existed, ["VARCHAR"]),
        ("division_in_force", divisions.in_force, ["VARCHAR", "DATE"]),
    ):
        connection.create_function(name, function, types, "BOOLEAN", type="arrow")
