import Compute
import Tensor
import TestSupport
import Testing

@Suite("Video operations")
struct VideoTests {
    @Test(
        "GroupNorm takes statistics over all pixels of the group", arguments: InstructionSet.allCases, Backends.dtypes)
    func groupNorm(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for (pixels, channels, groups) in [(1, 2, 1), (7, 6, 3), (50, 64, 32), (700, 96, 4), (33, 33, 3)] {
            let x = randomTensor([1, 1, pixels, channels], seed: 1, scale: 2, dtype: dtype)
            let weight = randomTensor([channels], seed: 2), bias = randomTensor([channels], seed: 3)
            let plain = Reference.groupNorm(x, groups: groups, epsilon: 1e-6, weight: weight, bias: bias)
            for silu in [false, true] {
                let y = backend.groupNorm(x, groups: groups, weight: weight, bias: bias, silu: silu)
                let values = plain.floats().map { silu ? Float(Reference.activate(Double($0), .silu)) : $0 }
                let expected = Tensor(values, shape: x.shape)
                #expect(maxAbsoluteDifference(y, expected) < 4 * Backends.tolerance(dtype), "\(pixels)×\(channels)")
            }
        }
    }

    @Test("GroupNorm keeps its precision when the mean is far from zero")
    func farMean() throws {
        let backend = try Backends.backend(.best)
        let x = Tensor(randomTensor([400 * 8], seed: 1).floats().map { $0 + 1000 }, shape: [1, 20, 20, 8])
        let one = Tensor([Float](repeating: 1, count: 8), shape: [8]), zero = Tensor(zeros: [8])
        let y = backend.groupNorm(x, groups: 2, weight: one, bias: zero, silu: false)
        let expected = Reference.groupNorm(x, groups: 2, epsilon: 1e-6, weight: one, bias: zero)
        #expect(maxAbsoluteDifference(y, expected) < 1e-3)
    }

    @Test(
        "the spatial norm reads scale and shift at the nearest latent pixel and frame",
        arguments: InstructionSet.allCases, Backends.dtypes)
    func spatialNorm(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for (height, width, latentHeight, latentWidth) in [(4, 6, 2, 3), (5, 7, 2, 3), (3, 3, 3, 3), (8, 40, 1, 1)] {
            let channels = 20, frameMap = [0, 1, 1]
            let x = randomTensor([3, height, width, channels], seed: 1, dtype: dtype)
            let scale = randomTensor([2, latentHeight, latentWidth, channels], seed: 2, dtype: dtype)
            let shift = randomTensor([2, latentHeight, latentWidth, channels], seed: 3, dtype: dtype)
            let weight = randomTensor([channels], seed: 4), bias = randomTensor([channels], seed: 5)
            let normal = Reference.groupNorm(x, groups: 5, epsilon: 1e-6, weight: weight, bias: bias).floats()
            let s = scale.floats(), h = shift.floats()
            for silu in [false, true] {
                var expected = normal
                for index in expected.indices {
                    let pixel = index / channels, frame = pixel / (height * width)
                    let row = pixel / width % height * latentHeight / height,
                        column = pixel % width * latentWidth / width
                    let latent =
                        ((frameMap[frame] * latentHeight + row) * latentWidth + column) * channels + index % channels
                    let value = Double(normal[index]) * Double(s[latent]) + Double(h[latent])
                    expected[index] = Float(silu ? Reference.activate(value, .silu) : value)
                }
                let affine = backend.groupAffine(x.slices, groups: 5, epsilon: 1e-6, weight: weight, bias: bias)
                let y = Tensor.stacked(
                    zip(x.slices, frameMap).map { frame, latent in
                        backend.applied(
                            affine, to: frame, scale: scale.slices[latent], shift: shift.slices[latent], silu: silu)
                    })
                #expect(maxAbsoluteDifference(y, Tensor(expected, shape: x.shape)) < 4 * Backends.tolerance(dtype))
            }
        }
    }

    @Test(
        "a permutation moves every element to its transposed place",
        arguments: [DType.float32, .bfloat16, .uint8, .int64])
    func permuted(dtype: DType) throws {
        let backend = try Backends.backend(.best)
        let shapes: [([Int], [Int])] = [
            ([3], [0]), ([2, 3], [1, 0]), ([4, 1, 3], [1, 2, 0]), ([2, 3, 4, 5], [0, 2, 3, 1]),
            ([2, 3, 4, 5], [3, 1, 0, 2]),
            ([2, 1, 2, 3, 2, 2], [0, 3, 4, 1, 5, 2]), ([1, 1], [1, 0]), ([0, 3], [1, 0]), ([65, 70], [1, 0]),
        ]
        for (shape, axes) in shapes {
            var x = Tensor(uninitialized: shape, dtype: dtype)
            x.withUnsafeMutableBytes { bytes in
                for i in bytes.indices { bytes[i] = UInt8(truncatingIfNeeded: i &* 37 ^ (i >> 8)) }
            }
            let y = backend.permuted(x, axes: axes)
            #expect(y.shape == axes.map { shape[$0] } && y.dtype == dtype)
            let size = dtype.byteCount
            x.withUnsafeBytes { from in
                y.withUnsafeBytes { to in
                    for index in 0..<x.count {
                        var place = index, position = 0
                        var coordinates = [Int](repeating: 0, count: shape.count)
                        for axis in y.shape.indices.reversed() {
                            coordinates[axes[axis]] = place % y.shape[axis]
                            place /= y.shape[axis]
                        }
                        for axis in shape.indices { position = position * shape[axis] + coordinates[axis] }
                        #expect(
                            to[index * size..<(index + 1) * size].elementsEqual(
                                from[position * size..<(position + 1) * size]))
                    }
                }
            }
        }
    }
}

extension CPUBackend {
    /// GroupNorm of a whole activation, statistics and application in one.
    func groupNorm(_ x: Tensor, groups: Int, weight: Tensor, bias: Tensor, silu: Bool) -> Tensor {
        let affine = groupAffine(x.slices, groups: groups, epsilon: 1e-6, weight: weight, bias: bias)
        return Tensor.stacked(x.slices.map { applied(affine, to: $0, silu: silu) })
    }
}
