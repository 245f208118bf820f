"""Decoding messages with the definitions that a bag brings along, or with the standard ones."""

from collections.abc import Callable
from typing import Any

from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from episodes.bags.bag import BagError
from episodes.bags.part import IDL, UNDEFINED, Channel

_ROS1, _CDR = "ros1", "cdr"
# Where a bag brings no definition, these are asked in turn; sensor messages are the same in all.
_ROS2_STORES = (
    (Stores.ROS2_HUMBLE, "ROS 2 Humble"),
    (Stores.ROS2_JAZZY, "ROS 2 Jazzy"),
    (Stores.ROS2_KILTED, "ROS 2 Kilted"),
)
_ROS1_STORES = ((Stores.ROS1_NOETIC, "ROS 1 Noetic"),)
# Longer arrays are a damaged length field; it also bounds loops over elements without bytes.
_MAX_ELEMENTS = 1 << 28
# Characters that are told of a parser's complaint; it may go on with all of the definition.
_SAID = 80
_IDL_SEPARATOR = "=" * 80 + "\n"


class Decoder:
    """Decodes the messages of one channel, with the bag's definition of the type or the standard one.

    Only types that are asked for are looked at, so that an odd definition elsewhere costs nothing.
    """

    def __init__(self, channel: Channel, note: Callable[[str], None]) -> None:
        """Finds the definition: the bag's own, else the standard one of that name.

        Args:
          channel: of the messages.
          note: is told when the standard definition is taken.

        Raises:
          BagError: the serialisation is not known, or there is no definition that fits.
        """
        if channel.serialization not in (_ROS1, _CDR):
            raise BagError(
                f"{channel.topic} is serialised in a way that is not supported, which are ROS 1's and cdr. "
                f"Received: {channel.serialization!r}"
            )
        self._channel, self._note = channel, note
        self._standard: Typestore | None = None
        try:
            self._store = _embedded(channel)
        except BagError as error:
            self._store = self._standard = self._take_standard(str(error))

    def __call__(self, data: bytes | memoryview) -> Any:
        """The message of a payload.

        Raises:
          BagError: the data do not fit the definition, nor the standard one of that name.
        """
        try:
            return self._decode(self._store, data)
        except BagError:
            if self._standard is not None:
                raise
        # There are bags whose definition is only the beginning of the real one.
        standard, name = _find_standard(self._channel)
        if standard is None:
            return self._decode(self._store, data)
        message = self._decode(standard, data)
        self._store = self._standard = standard
        self._note(
            f"messages do not fit the bag's definition of {self._channel.msgtype}; that of {name} was taken"
        )
        return message

    def _take_standard(self, reason: str) -> Typestore:
        store, name = _find_standard(self._channel)
        if store is None:
            raise BagError(
                f"{self._channel.topic} cannot be decoded: {reason}, and there is no standard type of that "
                f"name that fits"
            )
        self._note(f"{reason}; that of {name} was taken")
        return store

    def _decode(self, store: Typestore, data: bytes | memoryview) -> Any:
        msgtype = self._channel.msgtype
        deserialize = (
            store.deserialize_ros1 if self._channel.serialization == _ROS1 else store.deserialize_cdr
        )
        try:
            return deserialize(data, msgtype)
        except Exception as error:  # Generated code raises whatever befalls it in damaged data.
            said = f"{type(error).__name__}: {error}"
            raise BagError(f"a message of {self._channel.topic} is no {msgtype}: {said}") from error


def _embedded(channel: Channel) -> Typestore:
    if channel.language == UNDEFINED or (not channel.definition.strip() and not _has_no_fields(channel)):
        raise BagError(f"the bag has no definition of {channel.msgtype}")
    store = _store(Stores.EMPTY)
    try:
        if channel.language == IDL:
            texts = [channel.definition]
            if channel.definition.startswith(f"{_IDL_SEPARATOR}IDL: "):
                texts = [part.partition("\n")[2] for part in channel.definition.split(_IDL_SEPARATOR)[1:]]
            for text in texts:
                store.register(get_types_from_idl(text))
        else:
            store.register(get_types_from_msg(channel.definition, channel.msgtype))
        digest = _digest(store, channel) if channel.digest else ""
        store.get_msgdef(channel.msgtype)
    except Exception as error:  # The parser and the code it generates raise whatever befalls them.
        said = next(iter(str(error).splitlines()), type(error).__name__)[:_SAID].rstrip(": ")
        raise BagError(f"the bag's definition of {channel.msgtype} cannot be parsed ({said})") from error
    if _is_known(channel.digest) and digest != channel.digest:
        raise BagError(f"the bag's definition of {channel.msgtype} does not match its {channel.digest}")
    return store


def _find_standard(channel: Channel) -> tuple[Typestore | None, str]:
    """The first standard store that has the type, with the digest that the bag gives for it; its name."""
    for name, said in _ROS1_STORES if channel.serialization == _ROS1 else _ROS2_STORES:
        store = _store(name)
        if channel.msgtype not in store.fielddefs:
            continue
        if _is_known(channel.digest) and _digest(store, channel) != channel.digest:
            continue
        return store, said
    return None, ""


def _store(name: Stores) -> Typestore:
    store = get_typestore(name)
    store.max_sequence_length = _MAX_ELEMENTS
    return store


def _digest(store: Typestore, channel: Channel) -> str:
    if channel.serialization == _ROS1:
        return store.generate_msgdef(channel.msgtype)[1]
    return store.hash_rihs01(channel.msgtype)


def _is_known(digest: str) -> bool:
    return bool(digest) and digest != "*" and bool(digest.strip("0"))


def _has_no_fields(channel: Channel) -> bool:
    """An empty text is a definition, too: of ``std_msgs/Empty``, by whose md5 it is known."""
    return channel.digest == "d41d8cd98f00b204e9800998ecf8427e" or channel.msgtype == "std_msgs/msg/Empty"
