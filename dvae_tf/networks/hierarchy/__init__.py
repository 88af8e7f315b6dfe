"""The parts of `networks.ladder`, a hierarchy of latent maps: core, posterior, encoder and decoder."""
