"""A protoc plugin for the Python gRPC stubs, made of the compiler inside grpcio-tools.

buf runs protoc's own generators, but gRPC's Python generator exists only as a part of
grpcio-tools. This hands it what buf sends and returns what it writes; it decides nothing but to
leave out files without a service, for which grpcio-tools would write an empty module.
"""

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """Answer one request of the compiler: a `*_pb2_grpc.py` for each file with a service."""
    response = CodeGeneratorResponse(
        supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    wanted = set(request.file_to_generate)
    names = [file.name for file in request.proto_file if file.service and file.name in wanted]
    if not names:
        return response
    with tempfile.TemporaryDirectory() as folder:
        descriptors, out = Path(folder, "descriptors.binpb"), Path(folder, "out")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        out.mkdir()
        status = protoc.main(
            ["protoc", f"--descriptor_set_in={descriptors}", f"--grpc_python_out={out}", *names]
        )
        if status != 0:
            response.error = f"grpc_tools.protoc ended with status {status}"
        for path in sorted(out.rglob("*.py")):
            response.file.add(
                name=path.relative_to(out).as_posix(), content=path.read_text("utf-8")
            )
    return response


if __name__ == "__main__":
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(generate(request).SerializeToString())
