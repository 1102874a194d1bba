"""Builds the network from a model's plans and loads its weights.

One line per part; B images, P prompts, E numbers per embedding, N tokens, Q query width, C channels. (S, A, R) are
the axes superior, anterior, right; small letters (s, a, r) stand for a coarser grid.

    encoder         image (B, 1, S, A, R) -> features (B, C_i, s_i, a_i, r_i) of each stage i, finest first
    prompt_decoder  text queries (P, B, Q) and one stage's features as memory (N, B, Q) -> queries (P, B, Q)
    network         image and embeddings (B, P, E) -> guidance per scale (B, P, values) -> logits (B, P, S, A, R)
    mask_decoder    features and one prompt's guidance -> logits (1, 1, S, A, R) of that prompt

`plans` reads every dimension from plans.json, `checkpoint` the weights; `convolution` and `normalization` are the two
layers that save memory and time on a CPU. The design is that of VoxTell (Rokuss et al. 2025).
"""
