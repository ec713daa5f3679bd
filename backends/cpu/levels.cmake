# Instruction-set flags of the kernel files, by the end of their names. -O3: gcc 12 vectorises loops of unknown length only there.
file(GLOB avx2 ${PROJECT_SOURCE_DIR}/backends/cpu/*_avx2.c)
file(GLOB avx512 ${PROJECT_SOURCE_DIR}/backends/cpu/*_avx512.c)
file(GLOB avx512vnni ${PROJECT_SOURCE_DIR}/backends/cpu/*_avx512vnni.c)
file(GLOB avx512bf16 ${PROJECT_SOURCE_DIR}/backends/cpu/*_avx512bf16.c)
file(GLOB portable ${PROJECT_SOURCE_DIR}/backends/cpu/*_portable.c)
set_source_files_properties(${portable} ${PROJECT_SOURCE_DIR}/backends/blocks.c PROPERTIES COMPILE_OPTIONS "-O3")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set_source_files_properties(${avx2} PROPERTIES COMPILE_OPTIONS "-O3;-mavx2;-mfma;-mf16c")
  set_source_files_properties(${avx512} PROPERTIES COMPILE_OPTIONS
    "-O3;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mfma;-mf16c;-mprefer-vector-width=512")
  set_source_files_properties(${avx512vnni} PROPERTIES COMPILE_OPTIONS
    "-O3;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-mfma;-mf16c;-mprefer-vector-width=512")
  set_source_files_properties(${avx512bf16} PROPERTIES COMPILE_OPTIONS
    "-O3;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-mavx512bf16;-mfma;-mf16c;-mprefer-vector-width=512")
endif()
