import CKernels
package import Tensor

extension CPUBackend {
    package func layerNorm(
        _ x: Tensor, weight: Tensor?, bias: Tensor?, epsilon: Float, scale: Tensor?, shift: Tensor?
    ) -> Tensor {
        let (rows, channels) = rowsAndChannels(x)
        let w = Tensor.vector(weight, channels, "weight"), b = Tensor.vector(bias, channels, "bias")
        let s = Tensor.vector(scale, channels, "scale"), h = Tensor.vector(shift, channels, "shift")
        return withExtendedLifetime((weight, bias, scale, shift)) {
            mapped(x, rows: rows, channels: channels) { type, from, to, part in
                kernels.layer_norm(
                    type, from, to, Int64(channels), epsilon, w, b, s, h, Int64(part.lowerBound),
                    Int64(part.upperBound))
            }
        }
    }

    package func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float) -> Tensor {
        let (rows, channels) = rowsAndChannels(x)
        let w = weight.vector(channels, "weight")
        return withExtendedLifetime(weight) {
            mapped(x, rows: rows, channels: channels) { type, from, to, part in
                kernels.rms_norm(
                    type, from, to, Int64(channels), epsilon, w, Int64(part.lowerBound), Int64(part.upperBound))
            }
        }
    }

    package func modulatedNorm(
        _ x: Tensor, spans: [NormSpan], weight: Tensor?, bias: Tensor?, epsilon: Float
    ) -> Tensor {
        let channels = rowsAndChannels(x).channels, kind = type(of: x), rowBytes = channels * x.dtype.byteCount
        let w = Tensor.vector(weight, channels, "weight"), b = Tensor.vector(bias, channels, "bias")
        let rows = spans.reduce(0) { $0 + $1.rows.count }
        precondition(
            x.shape.count == 2 && spans.allSatisfy { $0.rows.upperBound <= x.shape[0] },
            "rows \(spans.map(\.rows)) of \(x.shape)")
        var result = storage.tensor([rows, channels], x.dtype)
        let target = result.writeAddress()
        withExtendedLifetime((x, weight, bias, spans)) {
            let source = x.readAddress
            pool.run(rows: rows, grain: grain(channels: channels)) { part, _ in
                forEachRun(of: spans.map(\.rows), within: part) { span, from, to, count in
                    kernels.layer_norm(
                        kind, source + from * rowBytes, target + to * rowBytes, Int64(channels), epsilon, w, b,
                        spans[span].scale.vector(channels, "scale"), spans[span].shift.vector(channels, "shift"), 0,
                        Int64(count))
                }
            }
        }
        return result
    }

    package func addGated(_ x: inout Tensor, _ y: Tensor, gate: Tensor?) {
        precondition(
            x.dtype == y.dtype && x.count == y.count && x.shape.last == y.shape.last,
            "a residual of \(y.dtype) \(y.shape) to \(x.dtype) \(x.shape)")
        let channels = x.shape.last ?? 1, kind = type(of: x)
        guard channels > 0 else { return }
        let g = Tensor.vector(gate, channels, "gate"), target = x.writeAddress()
        withExtendedLifetime((y, gate)) {
            let source = y.readAddress
            pool.run(rows: y.count / channels, grain: grain(channels: channels)) { part, _ in
                kernels.add_gated(
                    kind, target, source, g, Int64(channels), Int64(part.lowerBound), Int64(part.upperBound))
            }
        }
    }

    package func multiply(_ a: Tensor, _ b: Tensor) -> Tensor { combined(a, b, kernels.multiply) }

    package func mean(_ a: Tensor, _ b: Tensor) -> Tensor { combined(a, b, kernels.mean) }

    private func combined(
        _ a: Tensor, _ b: Tensor,
        _ kernel: (ck_type, UnsafeRawPointer, UnsafeRawPointer, UnsafeMutableRawPointer, Int64, Int64) -> Void
    ) -> Tensor {
        precondition(
            a.dtype == b.dtype && a.shape == b.shape, "\(a.dtype) \(a.shape) with \(b.dtype) \(b.shape)")
        return withExtendedLifetime(b) {
            let other = b.readAddress
            return mapped(a, rows: a.count, channels: 1) { type, from, to, part in
                kernel(type, from, other, to, Int64(part.lowerBound), Int64(part.upperBound))
            }
        }
    }

    package func silu(_ x: Tensor) -> Tensor {
        mapped(x, rows: x.count, channels: 1) { type, from, to, part in
            kernels.activate(type, CK_SILU, from, to, Int64(part.lowerBound), Int64(part.upperBound))
        }
    }

    package func embedding(_ ids: [Int32], table: Tensor, dtype: DType) -> Tensor {
        precondition(
            table.shape.count == 2 && table.dtype.isFloatingPoint && dtype.isFloatingPoint,
            "an embedding of \(table.shape)")
        precondition(
            ids.allSatisfy { $0 >= 0 && Int($0) < table.shape[0] }, "ids within 0..<\(table.shape[0])")
        guard let from = table.dtype.kernelType, let to = dtype.kernelType else { preconditionFailure("float types") }
        let width = table.shape[1]
        var result = Tensor(uninitialized: [ids.count, width], dtype: dtype)
        let target = result.writeAddress()
        withExtendedLifetime(table) {
            let source = table.readAddress
            pool.run(rows: ids.count, grain: grain(channels: width)) { rows, _ in
                for row in rows {
                    kernels.convert(
                        from, source + Int(ids[row]) * width * table.dtype.byteCount, to,
                        target + row * width * dtype.byteCount, Int64(width))
                }
            }
        }
        return result
    }

    // MARK: Parts

    func rowsAndChannels(_ x: Tensor) -> (rows: Int, channels: Int) {
        guard let channels = x.shape.last, channels > 0 else { preconditionFailure("rows of no channels: \(x.shape)") }
        return (x.count / channels, channels)
    }

    /// A tensor like `x` made by a kernel on ranges of rows.
    func mapped(
        _ x: Tensor, rows: Int, channels: Int,
        _ kernel: (ck_type, UnsafeRawPointer, UnsafeMutableRawPointer, Range<Int>) -> Void
    ) -> Tensor {
        let kind = type(of: x)
        var result = storage.tensor(x.shape, x.dtype)
        let target = result.writeAddress()
        withExtendedLifetime(x) {
            let source = x.readAddress
            pool.run(rows: rows, grain: grain(channels: channels)) { part, _ in kernel(kind, source, target, part) }
        }
        return result
    }
}
