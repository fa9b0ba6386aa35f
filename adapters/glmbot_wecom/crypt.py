"""The scheme in which WeCom posts messages: signed with a token, encrypted for one company. Pure.

https://developer.work.weixin.qq.com/document/path/90968: the signature is the SHA-1 of token, time, nonce and
ciphertext in the order of their bytes; AES-256-CBC, the key's first block is the initial vector; filled up to
blocks of 32 bytes; within are 16 bytes of chance, the length, the message, and whom it is for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

__all__ = ["Crypt"]

_BLOCK = 16
_FILLED_TO = 32
_CHANCE, _LENGTH = 16, 4


class Crypt:
    def __init__(
        self,
        token: str,
        key: bytes,
        receiver: str,
        chance: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """receiver: the company's id. chance: makes so many random bytes."""
        self._token = token
        self._cipher = Cipher(algorithms.AES(key), modes.CBC(key[:_BLOCK]))
        self._receiver = receiver.encode()
        self._chance = chance

    def signature(self, timestamp: str, nonce: str, encrypted: str) -> str:
        parts = sorted(
            each.encode("utf-8", "surrogatepass") for each in (self._token, timestamp, nonce, encrypted)
        )
        return hashlib.sha1(b"".join(parts), usedforsecurity=False).hexdigest()

    def signed(self, signature: str, timestamp: str, nonce: str, encrypted: str) -> bool:
        expected = self.signature(timestamp, nonce, encrypted).encode()
        return hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), expected)

    def decrypted(self, encrypted: str) -> bytes:
        """Raises ValueError, also for what is somebody else's."""
        content = base64.b64decode(encrypted, validate=True)
        if len(content) < _FILLED_TO or len(content) % _BLOCK:
            raise ValueError("not what was encrypted")
        decryptor = self._cipher.decryptor()
        unpadder = PKCS7(8 * _FILLED_TO).unpadder()
        whole = unpadder.update(decryptor.update(content) + decryptor.finalize()) + unpadder.finalize()
        begin = _CHANCE + _LENGTH
        length = int.from_bytes(whole[_CHANCE:begin], "big")
        message, receiver = whole[begin : begin + length], whole[begin + length :]
        if len(message) != length or not hmac.compare_digest(receiver, self._receiver):
            raise ValueError("not for this company")
        return message

    def encrypted(self, message: bytes) -> str:
        whole = self._chance(_CHANCE) + len(message).to_bytes(_LENGTH, "big") + message + self._receiver
        padder = PKCS7(8 * _FILLED_TO).padder()
        encryptor = self._cipher.encryptor()
        content = encryptor.update(padder.update(whole) + padder.finalize()) + encryptor.finalize()
        return base64.b64encode(content).decode()
