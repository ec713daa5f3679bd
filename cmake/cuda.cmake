# The CUDA device: a module of its own, diffc-cuda.so, that the program opens when a GPU is asked for, so that it runs without NVIDIA's libraries.
# Built where the compiler (nvcc), the CUDA runtime, cuBLASLt and cuDNN 9 are found: in a toolkit (/usr/local/cuda, CUDAToolkit_ROOT, CUDA_PATH,
# CUDNN_ROOT), or in the folder that their Python packages share (DIFFC_CUDA_ROOT=.../site-packages/nvidia, else that of python3).
set(DIFFC_CUDA AUTO CACHE STRING "build the CUDA device: AUTO (where its libraries are found, without sanitizers), ON, OFF")
set_property(CACHE DIFFC_CUDA PROPERTY STRINGS AUTO ON OFF)
set(DIFFC_CUDA_ROOT "" CACHE PATH "folder of NVIDIA's Python packages, .../site-packages/nvidia, or of a toolkit")
set(DIFFC_CUDA_ARCHITECTURES 80 86 89 90 CACHE STRING "compute capabilities that kernels are compiled for; newer GPUs compile those of the last one")
if(NOT DIFFC_CUDA STREQUAL AUTO)
  if(NOT DIFFC_CUDA)
    return()
  endif()
elseif(DIFFC_SANITIZE OR DIFFC_FUZZ) # NVIDIA's driver does not run beside sanitizers
  return()
endif()

# ---- finding ----

set(roots ${DIFFC_CUDA_ROOT} ${CUDAToolkit_ROOT} $ENV{CUDAToolkit_ROOT} $ENV{CUDA_PATH} ${CUDNN_ROOT} $ENV{CUDNN_ROOT} /usr/local/cuda)
find_program(DIFFC_PYTHON python3)
mark_as_advanced(DIFFC_PYTHON)
if(DIFFC_PYTHON AND NOT DIFFC_CUDA_ROOT)
  execute_process(COMMAND ${DIFFC_PYTHON} -c "import nvidia; print(';'.join(nvidia.__path__))" OUTPUT_VARIABLE packages ERROR_QUIET
                  OUTPUT_STRIP_TRAILING_WHITESPACE)
  list(APPEND roots ${packages})
endif()
set(places)
foreach(root ${roots}) # packages of CUDA 13 lie in cu13, those of 12 in a folder each
  list(APPEND places ${root} ${root}/cu13 ${root}/cuda_runtime ${root}/cuda_nvcc ${root}/cublas ${root}/cudnn)
endforeach()

set(missing)
function(find_part kind result what)
  if(kind STREQUAL program)
    find_program(${result} NAMES ${ARGN} HINTS ${places} PATH_SUFFIXES bin)
  elseif(kind STREQUAL header)
    find_path(${result} NAMES ${ARGN} HINTS ${places} PATH_SUFFIXES include include/x86_64-linux-gnu)
  else()
    find_library(${result} NAMES ${ARGN} HINTS ${places} PATH_SUFFIXES lib64 lib)
  endif()
  mark_as_advanced(${result})
  if(NOT ${result})
    set(missing ${missing} ${what} PARENT_SCOPE)
  endif()
endfunction()
function(version_of result header name) # the number of a #define
  file(STRINGS ${header} line REGEX "^#define ${name} +[0-9]+")
  string(REGEX REPLACE ".* ([0-9]+).*" "\\1" number "${line}")
  set(${result} "${number}" PARENT_SCOPE)
endfunction()

find_part(program CUDA_NVCC nvcc nvcc)
find_part(header CUDA_INCLUDE cuda_runtime_api.h cuda_runtime_api.h)
find_part(header CUBLASLT_INCLUDE cublasLt.h cublasLt.h)
find_part(header CUDNN_INCLUDE "cuDNN 9's cudnn_graph.h" cudnn_graph.h)
set(major "?")
if(CUDA_INCLUDE)
  version_of(CUDART_VERSION ${CUDA_INCLUDE}/cuda_runtime_api.h CUDART_VERSION)
  math(EXPR major "${CUDART_VERSION} / 1000")
endif()
# Packages have libraries under their versioned names only.
find_part(library CUDART_LIBRARY libcudart cudart_static libcudart.so.${major} cudart)
find_part(library CUBLASLT_LIBRARY libcublasLt libcublasLt.so.${major})
find_part(library CUDNN_LIBRARY libcudnn.so.9 libcudnn.so.9)

if(missing)
  list(JOIN missing ", " missing)
  if(DIFFC_CUDA STREQUAL AUTO)
    message(STATUS "CUDA device: not built; not found: ${missing}")
    return()
  endif()
  message(FATAL_ERROR "DIFFC_CUDA is ON, but these are not found: ${missing}. -DDIFFC_CUDA_ROOT=FOLDER and -DCUDNN_ROOT=FOLDER say where to look.")
endif()
version_of(cudnn ${CUDNN_INCLUDE}/cudnn_version.h CUDNN_MINOR)
list(JOIN DIFFC_CUDA_ARCHITECTURES " " architectures)
message(STATUS "CUDA device: CUDA ${CUDART_VERSION}, cuDNN 9.${cudnn}, for ${architectures}: ${CUDA_NVCC}, ${CUDNN_LIBRARY}")

# ---- kernels: compiled by nvcc directly, since CMake's own CUDA wants a whole toolkit ----

set(targets)
foreach(architecture ${DIFFC_CUDA_ARCHITECTURES})
  list(APPEND targets -gencode arch=compute_${architecture},code=sm_${architecture})
endforeach()
list(GET DIFFC_CUDA_ARCHITECTURES -1 newest)
list(APPEND targets -gencode arch=compute_${newest},code=compute_${newest})
file(GLOB kernels CONFIGURE_DEPENDS backends/cuda/*.cu)
set(objects)
foreach(kernel ${kernels})
  get_filename_component(name ${kernel} NAME_WE)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/cuda/${name}.o)
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/cuda
    COMMAND ${CUDA_NVCC} -c -O3 -std=c++17 -Xcompiler=-fPIC,-fvisibility=hidden,-fno-exceptions,-fno-rtti -I${PROJECT_SOURCE_DIR}
            -isystem ${CUDA_INCLUDE} ${targets} -MD
            -MF ${object}.d -MT ${object} ${kernel} -o ${object}
    DEPENDS ${kernel}
    DEPFILE ${object}.d
    COMMENT "nvcc ${name}.cu"
    VERBATIM)
  list(APPEND objects ${object})
endforeach()
set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)

# ---- the module ----

file(GLOB sources CONFIGURE_DEPENDS backends/cuda/*.c)
set(shared ${cuda_shared}) # it sees nothing of the program's, and has what it needs of the library once more
list(TRANSFORM shared PREPEND backends/)
add_library(diffc_cuda MODULE ${sources} ${shared} ${objects})
target_compile_definitions(diffc_cuda PRIVATE DIFFC_VERSION="${PROJECT_VERSION}")
target_include_directories(diffc_cuda SYSTEM PRIVATE ${CUDA_INCLUDE} ${CUBLASLT_INCLUDE} ${CUDNN_INCLUDE})
target_link_libraries(diffc_cuda PRIVATE diffc_flags dc_base ${CUDNN_LIBRARY} ${CUBLASLT_LIBRARY} ${CUDART_LIBRARY} ${CMAKE_DL_LIBS} rt stdc++)
target_link_options(diffc_cuda PRIVATE -Wl,--exclude-libs,ALL)
if(NOT DIFFC_SANITIZE)
  target_link_options(diffc_cuda PRIVATE -Wl,-z,defs)
endif()
set(beside "$ORIGIN")
foreach(library ${CUDNN_LIBRARY} ${CUBLASLT_LIBRARY} ${CUDART_LIBRARY})
  get_filename_component(folder ${library} DIRECTORY)
  if(NOT library MATCHES "\\.a$" AND NOT folder IN_LIST CMAKE_C_IMPLICIT_LINK_DIRECTORIES)
    list(APPEND beside ${folder})
  endif()
endforeach()
list(APPEND beside /usr/local/cuda/lib64) # where it is carried to another machine
list(REMOVE_DUPLICATES beside)
set_target_properties(diffc_cuda PROPERTIES PREFIX "" OUTPUT_NAME diffc-cuda BUILD_RPATH "${beside}" INSTALL_RPATH "${beside}")
install(TARGETS diffc_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/diffc)
