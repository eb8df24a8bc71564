// The table of this instruction set; CK_TABLE, CK_TABLE_ISA and CK_TABLE_NAME are defined by the including file.

const ck_table CK_TABLE = {
    .isa = CK_TABLE_ISA,
    .name = CK_TABLE_NAME,
    .convert = convert,
    .first_non_finite = first_non_finite,
    .multiply = multiply,
    .activate = activate,
    .add_gated = add_gated,
    .finish_product = finish_product,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .normalize_heads = normalize_heads,
    .channel_sums = channel_sums,
    .channel_affine = channel_affine,
    .spatial_affine = spatial_affine,
    .packed_block_bytes = packed_block_bytes,
    .attention_scratch_bytes = attention_scratch_bytes,
    .pack_keys = pack_keys,
    .attention = attention,
};
