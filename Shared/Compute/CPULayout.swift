import CKernels
package import Tensor

extension CPUBackend {
    package func converted(_ x: Tensor, to dtype: DType) -> Tensor {
        if dtype == x.dtype { return x }
        guard x.dtype.isFloatingPoint, dtype.isFloatingPoint, let from = x.dtype.kernelType, let to = dtype.kernelType
        else { return x.converted(to: dtype) }
        var result = Tensor(uninitialized: x.shape, dtype: dtype)
        let target = result.writeAddress()
        withExtendedLifetime(x) {
            let source = x.readAddress
            pool.run(rows: x.count, grain: Self.elementsPerPart) { part, _ in
                kernels.convert(
                    from, source + part.lowerBound * x.dtype.byteCount, to,
                    target + part.lowerBound * dtype.byteCount, Int64(part.count))
            }
        }
        return result
    }

    package func permuted(_ x: Tensor, axes: [Int]) -> Tensor {
        precondition(axes.sorted() == Array(x.shape.indices), "axes \(axes) of \(x.shape)")
        let resultShape = axes.map { x.shape[$0] }
        if axes == Array(x.shape.indices) || x.count == 0 { return x.reshaped(resultShape) }
        let view = StridedView(x.shape, axes: axes)
        precondition(view.shape.count <= 8, "a permutation of more than 8 separate axes")
        var result = Tensor(uninitialized: resultShape, dtype: x.dtype)
        let target = result.writeAddress(), length = Int(view.shape[view.shape.count - 1])
        withExtendedLifetime(x) {
            let source = x.readAddress
            pool.run(rows: x.count / length, grain: grain(channels: length)) { part, _ in
                ck_permute(
                    Int64(x.dtype.byteCount), source, target, Int32(view.shape.count), view.shape, view.strides,
                    Int64(part.lowerBound), Int64(part.upperBound))
            }
        }
        return result
    }
}

/// The axes of a transposition with extents of 1 left out and neighbours that stay together joined.
private struct StridedView {
    private(set) var shape: [Int64] = []
    private(set) var strides: [Int64] = []

    init(_ source: [Int], axes: [Int]) {
        var sourceStrides = [Int](repeating: 1, count: source.count)
        for axis in source.indices.dropLast().reversed() {
            sourceStrides[axis] = sourceStrides[axis + 1] * source[axis + 1]
        }
        for axis in axes where source[axis] != 1 {
            let extent = Int64(source[axis]), stride = Int64(sourceStrides[axis])
            if let last = strides.last, last == stride * extent {
                shape[shape.count - 1] *= extent
                strides[strides.count - 1] = stride
            } else {
                shape.append(extent)
                strides.append(stride)
            }
        }
        if shape.isEmpty {
            shape = [1]
            strides = [1]
        }
    }
}
