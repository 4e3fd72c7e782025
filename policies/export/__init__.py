"""A trained policy as files for the car: ONNX in fp32 and int8, TensorRT engines, and the bundle that holds and drives them."""

from .bundle import Bundle, read_bundle, write_bundle
from .drive import BundlePolicy
from .exportable import EXPORTABLE, Exportable, Port, load_exportable
from .frames import driving_frames
from .onnx_model import to_onnx
from .quantise import quantise
from .runtime import OnnxNetwork

__all__ = [
    "EXPORTABLE",
    "Bundle",
    "BundlePolicy",
    "Exportable",
    "OnnxNetwork",
    "Port",
    "driving_frames",
    "load_exportable",
    "quantise",
    "read_bundle",
    "to_onnx",
    "write_bundle",
]
