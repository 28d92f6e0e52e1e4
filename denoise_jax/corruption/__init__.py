"""Noise on tokens, with provenance: pure TensorFlow graph functions of one example.

`record` holds the example and says where every token came from, `keys` names the random streams,
`spans` the laws of span lengths; `infilling` and `sentences` are corruptions, `compose` chains them,
`presets` gives the well-known chains their names, and `ordering` sorts and searches rows.

A corruption is built once, from options that are checked there and then, and maps (Noised, key) to
Noised: statelessly, so that eager calls, tf.function and tf.data with any parallelism agree to the bit.
Nothing but TensorFlow, and the NumPy it brings, is imported.
"""
