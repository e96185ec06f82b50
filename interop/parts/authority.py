"""A private authority: certificates as files for the gateway, as credentials and contexts for programs beside it."""

import ssl
import tempfile
from pathlib import Path

import grpc
import trustme


class Authority:
    """A certificate authority of PyPI's trustme, its files in a folder that goes away."""

    def __enter__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="tracegate-interop-tls-")
        self._authority = trustme.CA()
        self._server = self._authority.issue_cert("localhost", "127.0.0.1")
        self._write("ca.pem", self._authority.cert_pem)
        self._write("server.pem", *self._server.cert_chain_pems)
        self._write("server.key", self._server.private_key_pem)
        client = self._authority.issue_cert("gateway.example.test")
        self._write("client.pem", *client.cert_chain_pems)
        self._write("client.key", client.private_key_pem)
        return self

    def __exit__(self, *_):
        self._directory.cleanup()

    def _write(self, name, *blobs):
        Path(self.path(name)).write_bytes(b"".join(blob.bytes() for blob in blobs))

    def path(self, name):
        """Path of one of the files."""
        return str(Path(self._directory.name) / name)

    def read(self, name):
        """Bytes of one of the files."""
        return Path(self.path(name)).read_bytes()

    def receiver(self, mutual):
        """`tls` of a receiver, with or without client certificates."""
        own = {"cert_file": self.path("server.pem"), "key_file": self.path("server.key")}
        return own | ({"client_ca_file": self.path("ca.pem")} if mutual else {})

    def grpc_client(self, mutual):
        """Credentials for a client on C-core."""
        shown = (self.read("client.key"), self.read("client.pem")) if mutual else (None, None)
        return grpc.ssl_channel_credentials(self.read("ca.pem"), *shown)

    def grpc_server(self, demand_client=False):
        """Credentials for C-core."""
        chain = b"".join(blob.bytes() for blob in self._server.cert_chain_pems)
        roots = self._authority.cert_pem.bytes() if demand_client else None
        return grpc.ssl_server_credentials([(self._server.private_key_pem.bytes(), chain)], roots, demand_client)

    def ssl_server(self):
        """A context for Python's ssl."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.configure_cert(context)
        return context
