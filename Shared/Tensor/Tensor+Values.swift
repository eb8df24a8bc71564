package import CKernels

extension DType {
    /// The name of this type in the C kernels; nil for int64, which no kernel reads.
    package var kernelType: ck_type? {
        switch self {
        case .float32: CK_F32
        case .bfloat16: CK_BF16
        case .float16: CK_F16
        case .uint8: CK_U8
        case .int32: CK_I32
        case .int64: nil
        }
    }
}

extension Tensor {
    /// The values in row-major order as floats; any float type, uint8, int32 (rounded to float) or int64 (likewise).
    package func floats() -> [Float] {
        if dtype == .int64 { return elements(as: Int64.self).map(Float.init) }
        return [Float](unsafeUninitializedCapacity: count) { target, initialized in
            initialized = count
            guard let address = target.baseAddress, count > 0 else { return }
            convert(to: .float32, at: address)
        }
    }

    /// The values of an int32 or uint8 tensor in row-major order.
    package func int32s() -> [Int32] {
        switch dtype {
        case .int32:
            return elements(as: Int32.self)
        case .uint8:
            return withUnsafeBytes { bytes in bytes.map(Int32.init) }
        default:
            preconditionFailure("\(dtype) values are not int32")
        }
    }

    /// The same values in another type: any float type to any float type (round to nearest, ties to even; NaN stays
    /// NaN; what is too large becomes infinite), uint8 and int32 to any float type. The same storage when nothing
    /// changes.
    package func converted(to target: DType) -> Tensor {
        if target == dtype { return self }
        precondition(target.isFloatingPoint, "no conversion from \(dtype) to \(target)")
        if dtype != .float32, !dtype.isFloatingPoint, target != .float32 {
            return converted(to: .float32).converted(to: target)
        }
        var result = Tensor(uninitialized: shape, dtype: target)
        let address = result.writeAddress()
        convert(to: target, at: address)
        return result
    }

    /// The row-major index of the first NaN or infinite value, or nil when all are finite (always, for integers).
    package func firstNonFinite() -> Int? {
        guard dtype.isFloatingPoint, let type = dtype.kernelType else { return nil }
        let index = withExtendedLifetime(self) {
            ck_select_isa(CK_AVX512_BF16).pointee.first_non_finite(type, readAddress, Int64(count))
        }
        return index < 0 ? nil : Int(index)
    }

    private func elements<Element: BitwiseCopyable>(as type: Element.Type) -> [Element] {
        withUnsafeBytes { bytes in
            (0..<count).map { bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Element>.size, as: type) }
        }
    }

    private func convert(to target: DType, at address: UnsafeMutableRawPointer) {
        guard let from = dtype.kernelType, let to = target.kernelType else {
            preconditionFailure("no conversion from \(dtype) to \(target)")
        }
        withExtendedLifetime(self) {
            ck_select_isa(CK_AVX512_BF16).pointee.convert(from, readAddress, to, address, Int64(count))
        }
    }
}
