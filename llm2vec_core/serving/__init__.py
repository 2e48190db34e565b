"""An encoder as other runtimes serve it: portable weights, an ONNX graph, a GGUF file, and the proof that they agree.

Writing only: nothing here serves. The servers' commands are in ``docs/serving.md``.
"""
