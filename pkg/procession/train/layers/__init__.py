"""Layers: operators together with their parameters, as functions of a model.

In `procession.train.brew` they have their names, and heed the arguments of the model and of
`arg_scope`; here they take what they are given.

    common.py         a layer's parameters; arguments that are about other devices
    linear.py         fully connected layers, products of matrices
    convolution.py    convolutions, and those that are transposed
    pooling.py        the largest, or the mean, of what a window sees
    normalization.py  of batches, channels, instances, groups, layers; softmax; dropout
    activation.py     ReLU and others
    recurrent.py      long short-term memory
    algebra.py        sums, differences, joining, transposing
    measuring.py      accuracy, a counter, weight decay
"""
