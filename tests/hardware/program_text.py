"""A small program as the GPU compiler writes one: two convolutions' gradients, a product, a loop, fusions, a copy."""

TEXT = """HloModule jit_step, is_scheduled=true

FileNames
1 "/somewhere/train.py"
2 "/somewhere/simswap_jax/models/simswap.py"
3 "/somewhere/simswap_jax/models/ops/resize.py"

FunctionNames
1 "<module>"
2 "Up.__call__"

FileLocations
1 {file_name_id=1 function_name_id=1 line=3 end_line=3 column=1 end_column=2}
2 {file_name_id=2 function_name_id=2 line=65 end_line=65 column=1 end_column=2}
3 {file_name_id=3 function_name_id=2 line=110 end_line=110 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=3}

%fused_slice (param_0.1: f32[16,8], param_1.1: f32[4]) -> f32[4,8] {
  %param_0.1 = f32[16,8]{1,0} parameter(0)
  %param_1.1 = f32[4]{0} parameter(1)
  %slice.1 = f32[4,8]{1,0} slice(%param_0.1), slice={[0:4], [0:8]}
  ROOT %add.1 = f32[4,8]{1,0} add(%slice.1, %slice.1)
}

%fused_dot (param_0.2: bf16[4,8], param_1.2: bf16[8,2]) -> bf16[4,2] {
  %param_0.2 = bf16[4,8]{1,0} parameter(0)
  %param_1.2 = bf16[8,2]{1,0} parameter(1)
  ROOT %dot.1 = bf16[4,2]{1,0} dot(%param_0.2, %param_1.2), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (state: (s32[], f32[4])) -> (s32[], f32[4]) {
  %state = (s32[], f32[4]{0}) parameter(0)
  %number = s32[] get-tuple-element(%state), index=0
  %row = f32[4]{0} get-tuple-element(%state), index=1
  %copy.1 = f32[4]{0} copy(%row)
  ROOT %both = (s32[], f32[4]{0}) tuple(%number, %copy.1)
}

ENTRY %main (x: bf16[2,8,8,3], k: bf16[5,3,3,3], g: bf16[2,4,4,5], big: f32[16,8], some: f32[4]) -> (f32[4,8], bf16[4,2]) {
  %x = bf16[2,8,8,3]{3,2,1,0} parameter(0)
  %k = bf16[5,3,3,3]{3,2,1,0} parameter(1)
  %g = bf16[2,4,4,5]{3,2,1,0} parameter(2)
  %big = f32[16,8]{1,0} parameter(3)
  %some = f32[4]{0} parameter(4)
  %conv = (bf16[2,4,4,5]{3,2,1,0}, u8[4096]{0}) custom-call(%x, %k), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="jit(step)/G/up1/conv" stack_frame_id=2}, backend_config={"x":{"y":1}}
  %dx = (bf16[2,8,8,3]{3,2,1,0}, u8[0]{0}) custom-call(%g, %k), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput", metadata={op_name="jit(step)/G/up1/conv" stack_frame_id=2}
  %dk = (bf16[5,3,3,3]{3,2,1,0}, u8[0]{0}) custom-call(%x, %g), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter", metadata={op_name="jit(step)/G/up1/conv" stack_frame_id=2}
  %a = bf16[4,8]{1,0} bitcast(%big)
  %b = bf16[8,2]{1,0} bitcast(%some)
  %gemm = (bf16[4,2]{1,0}, s8[33554432]{0}) custom-call(%a, %b), custom_call_target="__cublas$lt$matmul", metadata={op_name="jit(step)/F/dense/dot_general"}, backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  %triton = bf16[4,2]{1,0} fusion(%a, %b), kind=kCustom, calls=%fused_dot, metadata={op_name="jit(step)/F/dense/dot_general" source_file="/somewhere/simswap_jax/models/layers.py" source_line=60}
  %cut = f32[4,8]{1,0} fusion(%big, %some), kind=kLoop, calls=%fused_slice, metadata={op_name="jit(step)/G/up1/stack" stack_frame_id=3}
  %zero = s32[] constant(0)
  %start = (s32[], f32[4]{0}) tuple(%zero, %some)
  %loop = (s32[], f32[4]{0}) while(%start), condition=%less, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %turned = (s32[], f32[4]{0}) while(%start), condition=%less, body=%body
  %sent = f32[4]{0} all-reduce-start(%some), replica_groups=[2,4]<=[4,2]T(1,0), to_apply=%sum
  %came = f32[4]{0} all-reduce-done(%sent)
  ROOT %out = (f32[4,8]{1,0}, bf16[4,2]{1,0}) tuple(%cut, %triton)
}
"""  # noqa: E501
