import Failure
import FoundationEssentials
import Request
import Testing

@Suite("What a user sends is read strictly")
struct RequestDraftTests {
    private func failure(_ json: String) -> Failure? {
        #expect(throws: Failure.self) { try RequestDraft(json: Data(json.utf8)) }
    }

    private func texts(_ fields: [(String, String)]) -> [FormPart] {
        fields.map { FormPart(name: $0.0, content: .text($0.1)) }
    }

    @Test("every public field name can be set, from JSON types and from text")
    func everyField() throws {
        let json = """
            {"prompt": "a boat", "negative_prompt": "fog", "model": "m", "width": 96, "height": 64, "size": "96x64",
             "num_frames": 17, "seconds": "6", "fps": 8, "num_inference_steps": 25, "guidance_scale": 4.5,
             "use_dynamic_cfg": true, "scheduler": "dpm", "seed": 18446744073709551615, "dtype": "bfloat16",
             "container": "webm", "output_type": "latent", "upsample_prompt": false, "allow_unsafe_steps": true,
             "keep_step_latents": true, "keep_float_frames": false, "init_latents": "0a",
             "step_cache": "teacache", "step_cache_threshold": 0.25, "step_cache_range": 3, "image": "a", "video": "b",
             "control_video": "c", "fit": "cover", "strength": 0.5, "image_latent_scale": 1.5, "source_fps": 12,
             "steps_until": 9, "decode_workers": 3, "loras": [{"name": "style", "weight": 0.5}], "vae_tiling": true,
             "n": 4, "caption_of": "d"}
            """
        let draft = try RequestDraft(json: Data(json.utf8))
        #expect(draft.seed == .max)
        #expect(draft.seconds == 6)
        #expect(draft.guidanceScale == 4.5)
        #expect(draft.useDynamicCFG == true)
        let fields = try JSONDecoder().decode([String: RequestValue].self, from: Data(json.utf8))
        #expect(Set(fields.keys) == Set(RequestDraft.fieldNames))
        let form = [
            ("prompt", "a boat"), ("negative_prompt", "fog"), ("model", "m"), ("width", "96"), ("height", "64"),
            ("size", "96x64"), ("num_frames", "17"), ("seconds", "6"), ("fps", "8"), ("num_inference_steps", "25"),
            ("guidance_scale", "4.5"), ("use_dynamic_cfg", "true"), ("scheduler", "dpm"),
            ("seed", "18446744073709551615"), ("dtype", "bfloat16"), ("container", "webm"), ("output_type", "latent"),
            ("upsample_prompt", "false"), ("allow_unsafe_steps", "1"), ("keep_step_latents", "true"),
            ("keep_float_frames", "0"), ("init_latents", "0a"), ("step_cache", "teacache"),
            ("step_cache_threshold", "0.25"), ("step_cache_range", "3"), ("image", "a"), ("video", "b"),
            ("control_video", "c"), ("fit", "cover"), ("strength", "0.5"), ("image_latent_scale", "1.5"),
            ("source_fps", "12"), ("steps_until", "9"), ("decode_workers", "3"),
            ("loras", #"[{"path": "style", "weight": 0.5}]"#), ("vae_tiling", "1"), ("n", "4"),
            ("caption_of", "d"),
        ]
        #expect(try RequestDraft(form: texts(form)) == draft)
    }

    @Test("null leaves a field at its default")
    func null() throws {
        #expect(try RequestDraft(json: Data(#"{"prompt": "x", "seed": null, "width": null}"#.utf8)).seed == nil)
    }

    @Test("an unknown field is named together with the one that was probably meant")
    func unknownField() {
        let near = failure(#"{"prompt": "x", "num_inference_step": 3}"#)
        #expect(near?.code == "unknown_field")
        #expect(near?.field == "num_inference_step")
        #expect(near?.remedy == "Did you mean num_inference_steps?")
        let far = failure(#"{"zzzzzz": 3}"#)
        #expect(far?.remedy?.contains("guidance_scale") == true)
    }

    @Test(
        "a value of the wrong kind is named with what it must be",
        arguments: [
            (#"{"prompt": 3}"#, "prompt"), (#"{"width": "96"}"#, "width"), (#"{"width": 96.5}"#, "width"),
            (#"{"width": 1e300}"#, "width"), (#"{"width": true}"#, "width"), (#"{"seed": "7"}"#, "seed"),
            (#"{"seed": 1.5}"#, "seed"), (#"{"guidance_scale": "6"}"#, "guidance_scale"),
            (#"{"use_dynamic_cfg": 1}"#, "use_dynamic_cfg"), (#"{"prompt": ["a"]}"#, "prompt"),
            (#"{"step_cache": true}"#, "step_cache"), (#"{"step_cache_range": 2.5}"#, "step_cache_range"),
            (#"{"step_cache_threshold": "0.1"}"#, "step_cache_threshold"), (#"{"size": {"width": 3}}"#, "size"),
            (#"{"seconds": "six"}"#, "seconds"),
        ])
    func wrongType(json: String, field: String) {
        let found = failure(json)
        #expect(found?.code == "wrong_type")
        #expect(found?.field == field)
    }

    @Test("numbers written with a fraction of zero are whole numbers")
    func wholeDoubles() throws {
        let draft = try RequestDraft(json: Data(#"{"width": 96.0, "seed": 12.0}"#.utf8))
        #expect(draft.width == 96)
        #expect(draft.seed == 12)
    }

    @Test("a seed below zero or beyond 64 bits is out of range", arguments: ["-1", "18446744073709551616", "1e30"])
    func seeds(seed: String) {
        #expect(failure("{\"seed\": \(seed)}")?.code == "seed_out_of_range")
    }

    @Test("seeds given as text have the same range", arguments: ["-1", "18446744073709551616"])
    func textSeeds(seed: String) throws {
        let found = #expect(throws: Failure.self) { try RequestDraft(form: texts([("seed", seed)])) }
        #expect(found?.code == "seed_out_of_range")
        #expect(throws: Failure.self) { try RequestDraft(form: texts([("seed", "twelve")])) }
    }

    @Test("a body that is no JSON object says so", arguments: ["", "[]", "3", "{", "\u{FF}", "{\"a\":}"])
    func notJSON(body: String) {
        #expect(failure(body)?.code == "body_not_json")
    }

    @Test("a form field given twice is refused")
    func repeatedField() {
        let found = #expect(throws: Failure.self) { try RequestDraft(form: texts([("prompt", "a"), ("prompt", "b")])) }
        #expect(found?.code == "field_repeated")
    }

    @Test("a form may hold one file, where a file belongs")
    func files() throws {
        func file(_ name: String) -> FormPart { FormPart(name: name, content: .file([1, 2])) }
        let draft = try RequestDraft(form: texts([("prompt", "a")]) + [file("input_reference")])
        #expect(draft.attachment == AttachedFile(field: "input_reference", bytes: [1, 2]))
        for (parts, code) in [
            ([file("prompt")], "file_unsupported"), ([file("image"), file("video")], "fields_conflict"),
            ([file("image"), file("image")], "field_repeated"),
        ] {
            let found = #expect(throws: Failure.self) { try RequestDraft(form: parts) }
            #expect(found?.code == code)
        }
    }

    @Test("a form's file keeps every byte, boundary lookalikes included")
    func formFile() throws {
        let bytes = Array("\r\n--bX\r\n\0\u{ff}--\r\n-".utf8)
        func body(_ boundary: String) -> [UInt8] {
            let head = "--\(boundary)\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n"
            return Array(head.utf8) + bytes + Array("\r\n--\(boundary)--\r\n".utf8)
        }
        #expect(throws: Failure.self) { try MultipartForm.parts(body("b"), boundary: "b") }
        #expect(
            try MultipartForm.parts(body("boundary"), boundary: "boundary")
                == [FormPart(name: "image", content: .file(bytes))])
    }
}
