"""Reads models: headers, tensors, adapters, blocks of token rows, digests."""
