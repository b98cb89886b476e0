"""`fastcifar bench augment`: what augmentation costs, in three parts.

    operations, policies   (`rates`) each one alone, against the layers of KerasCV and Keras
    input                  (`inputs`) `standard` batched on the device against the same per image
                           in `tf.data.map`, and against a copy of the finished batch
    step                   (`share`) augment, resize and normalise as a share of the training step

A row is named PART/WHAT/WHOSE or PART/WHAT.
"""
