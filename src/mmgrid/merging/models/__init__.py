"""Reads models: headers, tensors, adapters, digests, declarations and token blocks."""
