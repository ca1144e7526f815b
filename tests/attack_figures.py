"""What attacks achieve on an honest model, as a pipeline states it."""

HONEST = {
    "membership_auc_micro": 510_000,
    "membership_auc_low_micro": 460_000,
    "membership_auc_high_micro": 560_000,
    "membership_advantage_micro": 20_000,
    "lira_auc_micro": 560_000,
    "lira_auc_low_micro": 520_000,
    "lira_auc_high_micro": 600_000,
    "lira_tpr_micro": 20_000,
    "lira_tpr_low_micro": 5_000,
    "lira_tpr_high_micro": 60_000,
    "attribute_advantage_micro": 30_000,
    "attribute_advantage_low_micro": -50_000,
    "attribute_advantage_high_micro": 110_000,
    "attribute_feature": "age",
    "memorised_rows": 0,
    "reconstructed_rows": 0,
}
