"""What librdkafka offers for tests and its Python client hides."""

import ctypes
from pathlib import Path

import confluent_kafka
from confluent_kafka import KafkaError, Producer


def raise_fatal_error(producer: Producer) -> None:
    """Raise a fatal error in *producer*, as an answer of the broker would: by librdkafka's own test function."""
    [library] = (Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob("librdkafka-*")
    fail = ctypes.CDLL(str(library)).rd_kafka_test_fatal_error
    fail.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    # The handle follows the two words with which every Python object begins.
    handle = ctypes.cast(id(producer) + object.__basicsize__, ctypes.POINTER(ctypes.c_void_p))[0]
    assert fail(handle, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, b"injected") == 0
