"""Conversion of encoders for other runtimes: portable weights, an ONNX graph, a GGUF file, and the parity check.

This package runs no server: the commands of servers are in ``docs/serving.md``.

=================  ====================================================================
``conversion``     converts an encoder into one directory and verifies it
``portable``       weights and configuration for sentence-transformers and servers
``onnx_graph``     the ONNX graph
``query_graph``    the ONNX graph of queries, over the weights of a checkpoint
``query_encoder``  runs that graph without torch
``gguf_file``      the GGUF file for llama.cpp
``parity``         compares the vectors of two runtimes
``runtimes``       the servers: what they support, and their commands
``record``         the record of a conversion, and its README
``model_card``     the card of a checkpoint
=================  ====================================================================
"""
